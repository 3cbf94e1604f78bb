//! The configured source of instances.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh_runtime::Tasks;
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::agent::Agent;
use super::entry::Registrant;
use super::look::{self, Seen};
use super::register::{self, Registered};
use super::settings::{Advertise, Registry};
use super::{dns, follow, intentions};
use crate::auth::intentions::Intentions;
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
        let open = CancellationToken::new();
        open.cancel();
        self.register_when(&open, services, address, advertise)
    }

    /// Like [`register`](Self::register), from when `open` is cancelled.
    pub fn register_when(
        &self,
        open: &CancellationToken,
        services: Vec<Registrant>,
        address: SocketAddr,
        advertise: Option<&Advertise>,
    ) -> Registered {
        match &self.0 {
            Source::Consul(agent) => register::register(agent, services, address, advertise, open),
            Source::Local | Source::Static(..) => Registered::none(),
        }
    }

    /// Keeps the intentions up to date, if they are those of Consul.
    pub fn follow_intentions(&self, kept: &Intentions) {
        if let (Source::Consul(agent), Some(services)) = (&self.0, kept.asked_of_consul()) {
            agent.tasks().run(intentions::follow(agent.clone(), kept.clone(), services));
        }
    }

    /// Whether there may be services in other processes.
    pub fn has_others(&self) -> bool {
        !matches!(self.0, Source::Local)
    }

    /// The services of the mesh; `None` if the source has no list of them.
    ///
    /// # Errors
    ///
    /// Consul does not answer: why.
    pub async fn services(&self) -> Result<Option<Vec<String>>, String> {
        match &self.0 {
            Source::Consul(agent) => look::services(agent).await.map(Some),
            Source::Local | Source::Static(..) => Ok(None),
        }
    }

    /// Looks once at the instances of a service.
    ///
    /// # Errors
    ///
    /// The source does not answer: why.
    pub async fn look(&self, service: &str) -> Result<Vec<Seen>, String> {
        match &self.0 {
            Source::Consul(agent) => look::in_consul(agent, service).await,
            Source::Static(addresses, _) => look::at_addresses(addresses, service).await,
            Source::Local => Ok(Vec::new()),
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
