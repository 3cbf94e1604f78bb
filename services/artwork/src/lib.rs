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
use mesh::{Migration, Service, Setting};

const MIGRATIONS: &[Migration] = &[Migration::new(1, "artwork", include_str!("../migrations/0001_artwork.sql"))];

const CONCURRENCY: Setting<u64> = Setting::number("concurrency", 2, 1, 64)
    .doc("Images rendered at the same time; each takes a core and up to 400 MB");
const LARGEST_IMAGE: Setting<u64> =
    Setting::bytes("largest_image", 16 << 20, 64 << 10, 64 << 20).doc("The largest image that RenderArtwork accepts");

/// In bytes: what a request holds beside its image.
const OTHER_FIELDS: usize = 64 * 1024;

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("artwork", contracts::FILE_DESCRIPTOR_SET)
        .port(50052)
        .owns(MIGRATIONS)
        .calls("catalog.v1.CatalogService", &["GetTitle"])
        .setting(&CONCURRENCY)
        .setting(&LARGEST_IMAGE)
        .works(|resources| work::Render::new(resources.store(), resources.setting(&CONCURRENCY)))
        .serves(|resources| {
            let catalog = CatalogServiceClient::new(resources.channel("catalog"));
            let largest = usize::try_from(resources.setting(&LARGEST_IMAGE)).unwrap_or(usize::MAX);
            let artwork = rpc::Artwork::new(resources.store(), resources.operations(), catalog, largest);
            // Only this service accepts requests above gRPC's default of 4 MiB.
            ArtworkServiceServer::new(artwork).max_decoding_message_size(largest + OTHER_FIELDS)
        })
}
