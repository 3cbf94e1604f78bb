//! What a process says of itself to a dashboard: its listeners, its services, their calls, and the configuration in
//! force.

use std::net::IpAddr;

use mesh_proto::mesh::inspect::v1::{DeclaredCall, GetProcessResponse, Listener, Service as Shown};
use mesh_rpc::auth::Mode;
use mesh_rpc::inspect::{self, Inspect};
use mesh_rpc::server::{Health, Listen};
use mesh_rpc::telemetry::Metrics;
use mesh_store::Database;

use crate::calls::ServiceCalls;
use crate::config::Config;
use crate::process::Process;
use crate::service::Service;

pub(crate) use mesh_rpc::inspect::CONTRACT;

/// What a process says of itself.
pub(crate) struct About(GetProcessResponse);

impl About {
    /// Of `process` with the calls of its services, at these addresses.
    pub(crate) fn of(process: &Process, config: &Config, calls: &ServiceCalls, at: Listen) -> Self {
        let listeners = [("services", Some(at.services)), ("admin", at.admin), ("edge", at.edge)].into_iter();
        let listeners = listeners.filter_map(|(name, at)| Some((name.to_owned(), at?.to_string())));
        let calls = calls.iter().flat_map(|(caller, calls)| {
            calls.iter().map(|call| DeclaredCall {
                caller: (*caller).to_owned(),
                callee: call.peer.to_owned(),
                method: format!("{}/{}", call.method.service, call.method.name),
                optional: call.optional,
            })
        });
        Self(GetProcessResponse {
            process: config.process.to_owned(),
            listeners: listeners.map(|(name, address)| Listener { name, address }).collect(),
            services: process.services.iter().map(|service| shown(service, config)).collect(),
            calls: calls.collect(),
            configuration: inspect::settings(&config.listing),
            ..GetProcessResponse::default()
        })
    }

    /// The API.
    pub(crate) fn inspect(self, metrics: &Metrics, health: &Health) -> Inspect {
        Inspect::new(self.0, metrics.clone(), health.clone())
    }
}

fn shown(service: &Service, config: &Config) -> Shown {
    let kind = |(database, _): (&Database, _)| match database {
        Database::Sqlite(_) => "sqlite",
        Database::Postgres(_) => "postgres",
    };
    let database = config.database(service.name()).map(kind).unwrap_or_default();
    let contracts = service.contracts().into_iter().chain(service.contracts_of_mesh());
    Shown {
        name: service.name().to_owned(),
        contracts: contracts.map(str::to_owned).collect(),
        database: database.to_owned(),
        follows: service.followed().into_iter().map(|(source, _)| source.to_owned()).collect(),
    }
}

/// Whether a process serves the API. The callers of a gateway may be anyone: unless it asks who they are, they would
/// read its log.
pub(crate) fn is_served(process: &Process, config: &Config, at: IpAddr) -> bool {
    process.gateway.is_none() || config.auth.mode == Mode::Required || at.is_loopback()
}
