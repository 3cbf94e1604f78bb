//! The backend of phones: few titles and small pictures, and one notice at the end of long work. It owns no data, and has
//! no rules: a rule that the television needs, too, is in the service that owns the data.
//!
//! [`rpc`] answers calls. [`notice`] makes the notice of an operation that has ended.

mod notice;
mod rpc;

use contracts::mobile::v1::mobile_service_server::MobileServiceServer;
use mesh::Service;

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("mobile", contracts::FILE_DESCRIPTOR_SET)
        .port(50056)
        .serves(|resources| MobileServiceServer::new(rpc::Mobile::new(|service| resources.channel(service))))
        .example("mobile.v1.MobileService/GetHome", "{}")
}
