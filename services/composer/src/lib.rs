//! The composer answers with what a page shows, from the answers of the services that own it. It owns no data, and has
//! no rules: a rule that two clients need is in the service that owns the data, so that its answer says it.

mod rpc;

use contracts::composer::v1::composer_service_server::ComposerServiceServer;
use mesh::Service;

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("composer", contracts::FILE_DESCRIPTOR_SET)
        .port(50055)
        .calls("catalog.v1.CatalogService", &["GetTitle"])
        .calls_if_there("artwork.v1.ArtworkService", &["GetArtwork"])
        .calls_if_there("library.v1.LibraryService", &["ListCurrentRentals"])
        .serves(|resources| ComposerServiceServer::new(rpc::Composer::new(|service| resources.channel(service))))
}
