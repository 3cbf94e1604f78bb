//! The same behaviour in every topology.

use harness::{Consul, Curl, Process, Secured};

use super::composes;

const SERVICES: [&str; 7] = ["catalog", "artwork", "billing", "library", "composer", "mobile", "tv"];

/// Each service in a process of its own, and a gateway to them.
pub(super) struct Apart {
    processes: Vec<(&'static str, Process)>,
    pub(super) gateway: Process,
}

impl Apart {
    /// At static addresses. A service finds those that stand before it.
    pub(super) fn start() -> Self {
        Self::start_by(Process::start)
    }

    /// Like [`start`](Self::start), with a function that starts a process.
    pub(super) fn start_by(start: impl Fn(&str, &[(&str, &str)]) -> Process) -> Self {
        let mut processes: Vec<(&'static str, Process)> = Vec::new();
        for name in SERVICES {
            let process = Self::process(&start, name, &processes);
            processes.push((name, process));
        }
        let gateway = Self::process(&start, "gateway", &processes);
        Self { processes, gateway }
    }

    fn process(start: impl Fn(&str, &[(&str, &str)]) -> Process, name: &str, peers: &[(&str, Process)]) -> Process {
        let addresses: Vec<_> = peers
            .iter()
            .map(|(peer, process)| (format!("MESH__STATIC__{}", peer.to_uppercase()), process.address.to_string()))
            .collect();
        let mut environment = vec![("MESH__REGISTRY", "static")];
        environment.extend(addresses.iter().map(|(name, address)| (name.as_str(), address.as_str())));
        start(name, &environment)
    }

    pub(super) fn service(&mut self, name: &str) -> &mut Process {
        let found = self.processes.iter_mut().find(|(service, _)| *service == name);
        &mut found.unwrap_or_else(|| panic!("there is no {name}")).1
    }

    /// Kills the process of a service, and starts it again at its address and on its data.
    pub(super) fn kill_and_restart(&mut self, name: &'static str) {
        let at = self.processes.iter().position(|(service, _)| *service == name).expect("a service");
        let (_, process) = self.processes.remove(at);
        let address = process.address.to_string();
        let folder = process.kill();
        let listen = format!("MESH__SERVICES__{}__LISTEN", name.to_uppercase());
        let catalog = self.service("catalog").address.to_string();
        let environment = [("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &catalog), (&listen, &address)];
        self.processes.push((name, Process::start_in(folder, name, &environment)));
    }

    /// Ends the process of a service.
    pub(super) fn stop(&mut self, name: &str) {
        self.processes.retain(|(service, _)| *service != name);
    }
}

#[test]
fn answers_are_composed_in_one_process() {
    if Curl::installed() {
        composes(&Process::start("monolith", &[]).curl());
    }
}

#[test]
fn answers_are_composed_of_those_of_other_processes() {
    if Curl::installed() {
        composes(&Apart::start().gateway.curl());
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn answers_are_composed_of_those_of_processes_in_consul() {
    let Some(consul) = Consul::start().filter(|_| Curl::installed()) else { return };
    let registry = [("MESH__REGISTRY", &*consul.registry())];
    let _services = SERVICES.map(|name| Process::start(name, &registry));
    let gateway = Process::start("gateway", &registry);
    composes(&gateway.curl());
}

/// The certificates of all processes.
pub(super) fn secured() -> Secured {
    Secured::new(&[&SERVICES[..], &["gateway"]].concat())
}

/// Composes for many viewers, as an operator.
fn composes_secured(mesh: &Secured, gateway: &Process) {
    let operator = mesh.token("olga", &["catalog.write", "artwork.write", "mesh.operator"]);
    composes(&gateway.curl().with_token(&operator));
}

#[test]
fn answers_are_composed_with_tls_and_tokens() {
    if Curl::installed() {
        let mesh = secured();
        composes_secured(&mesh, &Apart::start_by(|name, settings| mesh.start(name, settings)).gateway);
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn answers_are_composed_with_tls_and_tokens_in_consul() {
    let Some(consul) = Consul::start().filter(|_| Curl::installed()) else { return };
    let mesh = secured();
    let _services = SERVICES.map(|name| mesh.start_in_consul(name, &consul));
    composes_secured(&mesh, &mesh.start_in_consul("gateway", &consul));
}
