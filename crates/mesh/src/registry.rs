//! Where the services of other processes are, and how others find those of this one.
//!
//! A process starts, serves and ends whether its registry can be reached or not: what an agent that does not answer can
//! cost is the first call to a peer, and a second of a drain. Three kinds of it: `local`, there are no others; `static`,
//! they are where the configuration says; `consul`, an agent of Consul knows, and is told. What one kind can do and the
//! others cannot stays in this room: a [`Channel`](crate::Channel) sees a set of [`Instance`]s that is replaced from time
//! to time.
//!
//! With Consul each service of this process has a task that keeps it registered (`register`), and each service that it
//! calls has one that knows its instances (`follow`), however many channels there are. Both go on for as long as the
//! process does, and both share what they know of the agent (`agent`), so that an outage is told once and not by each.

mod agent;
mod follow;
mod register;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::uri::Authority;

use crate::channel::Endpoints;
use crate::config::{self, Advertise};
use crate::health::Health;
use crate::serve::Tasks;
use agent::Agent;
pub(crate) use register::{Registered, Registrant};

/// Where one instance of a service is, and how large a part of the calls it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) authority: Authority,
    pub(crate) weight: u32,
}

/// How processes find each other. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Registry {
    Local,
    Static(BTreeMap<String, Vec<SocketAddr>>),
    Consul(Agent),
}

impl Registry {
    /// What it does in the background is one of `tasks`, and ends with them. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// Consul's address or token cannot be used.
    pub(crate) fn new(config: &config::Registry, tasks: &Tasks) -> anyhow::Result<Self> {
        Ok(match config {
            config::Registry::Local => Self::Local,
            config::Registry::Static(addresses) => Self::Static(addresses.clone()),
            config::Registry::Consul(consul) => Self::Consul(Agent::new(consul, tasks.clone())?),
        })
    }

    /// From now on `endpoints` are the instances of `service` that can be called.
    pub(crate) fn follow(&self, service: &'static str, endpoints: Endpoints) {
        match self {
            Self::Local => {
                tracing::warn!(service, "called from this process, and nobody says where it is: set `registry`");
                endpoints.set(&[]);
            }
            Self::Static(addresses) => {
                let addresses = addresses.get(service).map(Vec::as_slice).unwrap_or_default();
                if addresses.is_empty() {
                    tracing::warn!(
                        service,
                        "called from this process, and nobody says where it is: set `static.{service}`"
                    );
                }
                let instance = |address: &SocketAddr| {
                    // An IP address and a port are always an authority.
                    let authority = address.to_string().parse().ok()?;
                    Some(Instance { authority, weight: 1 })
                };
                endpoints.set(&addresses.iter().filter_map(instance).collect::<Vec<_>>());
            }
            Self::Consul(agent) => agent.tasks().run(follow::follow(agent.clone(), service, endpoints)),
        }
    }

    /// Lets others find the services of this process, which listens on `address`, until they are withdrawn.
    pub(crate) fn register(
        &self,
        services: Vec<Registrant>,
        health: &Health,
        address: SocketAddr,
        advertise: Option<&Advertise>,
    ) -> Registered {
        match self {
            Self::Consul(agent) => register::register(agent, services, health, address, advertise),
            Self::Local | Self::Static(_) => Registered::new(0),
        }
    }
}
