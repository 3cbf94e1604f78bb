//! The configured source of instances.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_runtime::Tasks;

use super::agent::Agent;
use super::entry::Registrant;
use super::follow;
use super::register::{self, Registered};
use super::settings::{Advertise, Registry};
use crate::client::{Discover, Endpoints, Instance};

/// Finds peers and registers services. Cheap to clone.
#[derive(Clone)]
pub struct Discovery(Source);

#[derive(Clone)]
enum Source {
    /// There are no other processes.
    Local,
    /// The configured addresses of each service.
    Static(Arc<BTreeMap<String, Vec<SocketAddr>>>),
    /// A Consul agent.
    Consul(Agent),
}

impl Discovery {
    /// Creates the source. Its background tasks run in `tasks`. Sends nothing yet.
    ///
    /// # Errors
    ///
    /// Consul's address or token is invalid.
    pub fn new(registry: &Registry, tasks: &Tasks) -> anyhow::Result<Self> {
        Ok(Self(match registry {
            Registry::Local => Source::Local,
            Registry::Static(addresses) => Source::Static(Arc::new(addresses.clone())),
            Registry::Consul(consul) => Source::Consul(Agent::new(consul, tasks.clone())?),
        }))
    }

    /// Registers services that listen on `address`, until they are deregistered.
    pub fn register(
        &self,
        services: Vec<Registrant>,
        address: SocketAddr,
        advertise: Option<&Advertise>,
    ) -> Registered {
        match &self.0 {
            Source::Consul(agent) => register::register(agent, services, address, advertise),
            Source::Local | Source::Static(_) => Registered::none(),
        }
    }
}

impl Discover for Discovery {
    fn follow(&self, service: &'static str, endpoints: Endpoints) {
        let addresses = match &self.0 {
            Source::Consul(agent) => return agent.tasks().run(follow::follow(agent.clone(), service, endpoints)),
            Source::Local => None,
            Source::Static(addresses) => addresses.get(service),
        };
        if addresses.is_none() {
            let key = if matches!(self.0, Source::Local) { "registry".to_owned() } else { format!("static.{service}") };
            tracing::warn!(service, "the address of a service that this process calls is not configured: set `{key}`");
        }
        let instance = |address: &SocketAddr| {
            // An IP address and a port always form an authority.
            let authority = address.to_string().parse().ok()?;
            Some(Instance { authority, weight: 1 })
        };
        endpoints.set(&addresses.into_iter().flatten().filter_map(instance).collect::<Vec<_>>());
    }
}
