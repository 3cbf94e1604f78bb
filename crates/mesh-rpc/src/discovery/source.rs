//! The configured source of instances.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_runtime::Tasks;

use super::agent::Agent;
use super::entry::Registrant;
use super::fixed::Fixed;
use super::register::{self, Registered};
use super::settings::{Advertise, Registry};
use super::{fixed, follow};
use crate::client::{Discover, Endpoints};

/// Finds peers and registers services. Cheap to clone.
#[derive(Clone)]
pub struct Discovery(Source);

#[derive(Clone)]
enum Source {
    Fixed(Arc<Fixed>),
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
            Registry::Local => Source::Fixed(Arc::new(Fixed::Local)),
            Registry::Static(addresses) => Source::Fixed(Arc::new(Fixed::Static(addresses.clone()))),
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
            Source::Fixed(_) => Registered::none(),
        }
    }
}

impl Discover for Discovery {
    fn follow(&self, service: &'static str, endpoints: Endpoints) {
        match &self.0 {
            Source::Fixed(fixed) => fixed::follow(fixed, service, &endpoints),
            Source::Consul(agent) => agent.tasks().run(follow::follow(agent.clone(), service, endpoints)),
        }
    }
}
