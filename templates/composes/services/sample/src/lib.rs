//! `sample` composes the answers of PEERS. It owns no data, and has no rules: a rule that two clients need is in
//! the service that owns the data, so that its answer says it.

mod rpc;

use contracts::sample::v1::sample_service_server::SampleServiceServer;
use mesh::Service;

/// The service, ready to run alone or with others.
pub fn service() -> Service {
    Service::new("sample", contracts::FILE_DESCRIPTOR_SET)
        .port(50055)
        .calls("alpha.v1.AlphaService", &["GetAlpha"])
        .calls_if_there("beta.v1.BetaService", &["GetBeta"])
        .serves(|resources| SampleServiceServer::new(rpc::Overview::new(|service| resources.channel(service))))
}
