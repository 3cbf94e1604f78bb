//! The source of instances that a process is configured with.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_runtime::Tasks;

use super::agent::Agent;
use super::fixed::Fixed;
use super::register::{self, Registered, Registrant};
use super::settings::{Advertise, Registry};
use super::{fixed, follow};
use crate::client::{Discover, Endpoints};

/// How processes find each other. Cheap to clone.
#[derive(Clone)]
pub struct Discovery(Source);

#[derive(Clone)]
enum Source {
    Fixed(Arc<Fixed>),
    Consul(Agent),
}

impl Discovery {
    /// Its background tasks are among `tasks`, and end with them. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// Consul's address or token cannot be used.
    pub fn new(registry: &Registry, tasks: &Tasks) -> anyhow::Result<Self> {
        Ok(Self(match registry {
            Registry::Local => Source::Fixed(Arc::new(Fixed::Nowhere)),
            Registry::Static(addresses) => Source::Fixed(Arc::new(Fixed::At(addresses.clone()))),
            Registry::Consul(consul) => Source::Consul(Agent::new(consul, tasks.clone())?),
        }))
    }

    /// Lets other processes find these services, which listen on `address`, until they are deregistered.
    pub fn register(
        &self,
        services: Vec<Registrant>,
        address: SocketAddr,
        advertise: Option<&Advertise>,
    ) -> Registered {
        match &self.0 {
            Source::Consul(agent) => register::register(agent, services, address, advertise),
            Source::Fixed(_) => Registered::nowhere(),
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
