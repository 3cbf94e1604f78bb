//! The services of one process, or the gateway to those of others.

use mesh_rpc::call::Methods;

use crate::calls::{ServiceCalls, System};
use crate::service::Service;

/// The port of a process that answers for several services, unless another is configured.
const MONOLITH_PORT: u16 = 8080;

/// The services that run in one process: one service, or an array of them. A process of one service has its name and
/// port; a process of several is `monolith` on port 8080.
pub struct Process {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) services: Vec<Service>,
    /// Whether the process has one service, given by itself.
    pub(crate) alone: bool,
    /// The contracts of the services elsewhere that a gateway answers for.
    pub(crate) gateway: Option<&'static [u8]>,
}

/// A process without services of its own: it answers for the public methods of the services of other processes, by gRPC
/// and by HTTP. It has no state.
pub struct Gateway {
    descriptors: &'static [u8],
}

impl Gateway {
    /// A gateway on port 8080, for the contracts of the system: `contracts::FILE_DESCRIPTOR_SET`.
    pub fn new(descriptors: &'static [u8]) -> Self {
        Self { descriptors }
    }
}

impl From<Gateway> for Process {
    fn from(gateway: Gateway) -> Self {
        let (services, alone) = (Vec::new(), false);
        Self { name: "gateway", port: MONOLITH_PORT, services, alone, gateway: Some(gateway.descriptors) }
    }
}

impl Process {
    /// The encoded descriptor sets of its contracts.
    pub(crate) fn descriptors(&self) -> Vec<&'static [u8]> {
        self.services.iter().map(Service::descriptors).chain(self.gateway).collect()
    }

    /// The calls that its services declare.
    ///
    /// # Errors
    ///
    /// What is wrong with one: one line.
    pub(crate) fn declared_calls(&self, methods: &Methods) -> anyhow::Result<ServiceCalls> {
        let own = self.services.iter().map(Service::name);
        let system = System { methods: methods.clone(), services: methods.services().into_iter().chain(own).collect() };
        self.services.iter().map(|service| Ok((service.name(), service.declared_calls(&system)?))).collect()
    }

    /// Whether its peers are in other processes, unless the configuration says otherwise.
    pub(crate) fn has_peers_elsewhere(&self) -> bool {
        self.alone || self.gateway.is_some()
    }
}

impl From<Service> for Process {
    fn from(service: Service) -> Self {
        Self { name: service.name(), port: service.own_port(), services: vec![service], alone: true, gateway: None }
    }
}

impl<const N: usize> From<[Service; N]> for Process {
    fn from(services: [Service; N]) -> Self {
        Self { name: "monolith", port: MONOLITH_PORT, services: services.into(), alone: false, gateway: None }
    }
}
