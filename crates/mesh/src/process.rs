//! The services of one process.

use crate::service::Service;

/// The port of a process that runs several services, unless another is configured.
const MONOLITH_PORT: u16 = 8080;

/// The services that run in one process: one service, or an array of them. A process of one service has its name and
/// port; a process of several is `monolith` on port 8080.
pub struct Process {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) services: Vec<Service>,
    /// Whether the process has one service, given by itself.
    pub(crate) alone: bool,
}

impl From<Service> for Process {
    fn from(service: Service) -> Self {
        Self { name: service.name(), port: service.own_port(), services: vec![service], alone: true }
    }
}

impl<const N: usize> From<[Service; N]> for Process {
    fn from(services: [Service; N]) -> Self {
        Self { name: "monolith", port: MONOLITH_PORT, services: services.into(), alone: false }
    }
}
