//! The configured source of instances.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_runtime::Tasks;

use super::address::Address;
use super::agent::Agent;
use super::entry::Registrant;
use super::register::{self, Registered};
use super::settings::{Advertise, Registry};
use super::{dns, follow};
use crate::client::{Discover, Endpoints};

/// Finds peers and registers services. Cheap to clone.
#[derive(Clone)]
pub struct Discovery(Source);

#[derive(Clone)]
enum Source {
    /// There are no other processes.
    Local,
    /// The addresses of each service.
    Static(Arc<BTreeMap<String, Vec<Address>>>, Tasks),
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
            Registry::Static(addresses) | Registry::Dns(_, addresses) => {
                Source::Static(Arc::new(addresses.clone()), tasks.clone())
            }
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
            Source::Local | Source::Static(..) => Registered::none(),
        }
    }
}

impl Discover for Discovery {
    fn follow(&self, service: &'static str, endpoints: Endpoints) {
        let key = match &self.0 {
            Source::Consul(agent) => return agent.tasks().run(follow::follow(agent.clone(), service, endpoints)),
            Source::Static(addresses, tasks) => match addresses.get(service) {
                Some(addresses) => {
                    return tasks.run(dns::follow(dns::SystemResolver, service, addresses.clone(), endpoints));
                }
                None => format!("static.{service}"),
            },
            Source::Local => "registry".to_owned(),
        };
        tracing::warn!(service, "the address of a service that this process calls is not configured: set `{key}`");
        endpoints.set_empty("its address is not configured");
    }
}
