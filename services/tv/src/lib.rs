//! The backend of televisions: rows of titles with synopses and large pictures, and the progress of long work. It owns
//! no data, and has no rules: a rule that phones need, too, is in the service that owns the data.
//!
//! [`rpc`] answers calls. [`home`] arranges titles in rows, [`progress`] shows an operation.

mod home;
mod progress;
mod rpc;

use contracts::tv::v1::tv_service_server::TvServiceServer;
use mesh::{Service, Setting};

/// By which [`mesh::client::OperationWatch`] follows an operation.
const OPERATIONS: &str = "mesh.operations.v1.OperationEventsService";
/// `services.tv.recommendations`
const RECOMMENDATIONS: Setting<bool> =
    Setting::switch("recommendations", false).doc("Whether the home screen has a row of recommendations");

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("tv", contracts::FILE_DESCRIPTOR_SET)
        .port(50057)
        .calls("catalog.v1.CatalogService", &["ListTitles"])
        .calls_if_there("artwork.v1.ArtworkService", &["BatchGetArtworks"])
        .calls_if_there("library.v1.LibraryService", &["ListCurrentRentals"])
        .calls_if_there("recommendations.v1.RecommendationsService", &["ListRecommendations"])
        .calls_if_there(("artwork", OPERATIONS), &["Watch"])
        .calls_if_there(("library", OPERATIONS), &["Watch"])
        .setting(&RECOMMENDATIONS)
        .serves(|resources| {
            let recommends = resources.setting(&RECOMMENDATIONS);
            TvServiceServer::new(rpc::Tv::new(|service| resources.channel(service), recommends))
        })
        .example("tv.v1.TvService/GetHome", "{}")
}
