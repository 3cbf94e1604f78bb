//! Artwork owns the pictures of titles and renders them in the background, in one size per class of screen.
//!
//! [`rpc`] answers calls, and [`work`] does what RenderArtwork starts. [`wire`] converts between the contract and
//! [`domain`], which holds the sizes and the image processing; [`store`] holds the SQL.

mod domain;
mod rpc;
mod store;
mod wire;
mod work;

use contracts::artwork::v1::artwork_service_server::ArtworkServiceServer;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use mesh::{Migration, Service};

const MIGRATIONS: &[Migration] = &[Migration::new(1, "artwork", include_str!("../migrations/0001_artwork.sql"))];

/// In bytes: the largest image plus the other fields. Only this service accepts requests above gRPC's default of 4 MiB.
const LARGEST_REQUEST: usize = domain::LARGEST_IMAGE + 64 * 1024;

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("artwork", contracts::FILE_DESCRIPTOR_SET)
        .port(50052)
        .owns(MIGRATIONS)
        .works(|resources| work::Render::new(resources.store()))
        .serves(|resources| {
            let catalog = CatalogServiceClient::new(resources.channel("catalog"));
            let artwork = rpc::Artwork::new(resources.store(), resources.operations(), catalog);
            ArtworkServiceServer::new(artwork).max_decoding_message_size(LARGEST_REQUEST)
        })
}
