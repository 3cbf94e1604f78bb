//! The backend of phones: few titles and small pictures, and one notice at the end of long work. It owns no data, and
//! has no rules: a rule that the television needs, too, is in the service that owns the data.
//!
//! [`rpc`] answers calls. [`notice`] makes the notice of an operation that has ended.

mod notice;
mod rpc;

use contracts::mobile::v1::mobile_service_server::MobileServiceServer;
use mesh::Service;

/// By which [`mesh::client::OperationWatch`] follows an operation.
const OPERATIONS: &str = "mesh.operations.v1.OperationEventsService";

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("mobile", contracts::FILE_DESCRIPTOR_SET)
        .port(50056)
        .calls("catalog.v1.CatalogService", &["ListTitles"])
        .calls_if_there("artwork.v1.ArtworkService", &["BatchGetArtworks"])
        .calls_if_there(("artwork", OPERATIONS), &["Watch"])
        .calls_if_there(("library", OPERATIONS), &["Watch"])
        .serves(|resources| MobileServiceServer::new(rpc::Mobile::new(|service| resources.channel(service))))
        .example("mobile.v1.MobileService/GetHome", "{}")
}
