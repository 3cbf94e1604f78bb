//! What the parts of a process share: its contracts, addresses, health and measurements, and the tasks that a drain
//! ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_rpc::auth::Passports;
use mesh_rpc::call::Methods;
use mesh_rpc::client::{Calling, Peers};
use mesh_rpc::discovery::Discovery;
use mesh_rpc::server::{Health, Limits, Listen, health_service, reflection};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Config;
use crate::inspect;
use crate::process::Process;
use crate::release;
use crate::service::Service;

/// What the parts of a process share.
pub(crate) struct Common<'a> {
    pub(crate) config: &'a Config,
    /// The encoded descriptor sets of the system.
    pub(crate) sets: Vec<&'static [u8]>,
    /// The methods of the contracts.
    pub(crate) methods: Methods,
    /// Each service with the full names of its gRPC services.
    pub(crate) services: Vec<(&'static str, Vec<&'static str>)>,
    /// The full names of the gRPC services of mesh that the process serves.
    pub(crate) mesh_contracts: Vec<&'static str>,
    pub(crate) is_gateway: bool,
    /// The full names of the gRPC services elsewhere that a gateway passes calls on to.
    pub(crate) forwarded: BTreeSet<&'static str>,
    pub(crate) addresses: Listen,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    pub(crate) discovery: Discovery,
    pub(crate) passports: Option<Passports>,
    /// Cancelled when a drain closes the listeners.
    pub(crate) draining: CancellationToken,
    /// Listeners, connections and work, which a drain waits for.
    pub(crate) foreground: Tasks,
    /// Tasks that run until the foreground has ended.
    pub(crate) background: Tasks,
    pub(crate) cut_on_drop: [DropGuard; 2],
}

impl<'a> Common<'a> {
    /// Of `process`, which listens at these addresses.
    ///
    /// # Errors
    ///
    /// The agent's address or token cannot be used, or the key that signs passports. The message is one line.
    pub(crate) fn of(process: &Process, config: &'a Config, addresses: Listen, limits: Limits) -> anyhow::Result<Self> {
        let (sets, services) = (process.descriptors(), &process.services);
        let methods = Methods::of(&sets);
        let is_gateway = process.gateway.is_some();
        let forwarded = if is_gateway { methods.public_services() } else { BTreeSet::new() };
        let metrics = Metrics::keeping(config.keep_calls);
        metrics.edges.runs(config.process, services.iter().map(Service::name));
        let mesh_contracts = mesh_contracts(services, inspect::is_served(process, config, addresses.services.ip()));
        let services: Vec<_> = services.iter().map(|service| (service.name(), service.contracts())).collect();
        // A gateway has no service, and a certificate that may expire.
        let certificate = config.transport.certificates().filter(|_| is_gateway);
        let own_certificate = certificate.map(|_| (config.process, Vec::new()));
        let health = Health::starting(services.iter().cloned().chain(own_certificate), mesh_contracts.clone());
        let passports = Passports::of_process(&config.auth, &config.transport, config.process);
        let (foreground, background) = (Tasks::default(), Tasks::default());
        let common = Self {
            config,
            sets,
            methods,
            services,
            mesh_contracts,
            is_gateway,
            forwarded,
            addresses,
            limits,
            metrics,
            health,
            discovery: Discovery::new(&config.registry, &background)?,
            passports: passports.map_err(anyhow::Error::msg)?,
            draining: CancellationToken::new(),
            cut_on_drop: [foreground.cut_on_drop(), background.cut_on_drop()],
            foreground,
            background,
        };
        common.metrics.serves(common.methods.of_contracts(&common.served()));
        Ok(common)
    }

    /// The descriptor sets of the system, and mesh's own.
    pub(crate) fn all_sets(&self) -> Vec<&'static [u8]> {
        self.sets.iter().copied().chain([mesh_proto::FILE_DESCRIPTOR_SET]).collect()
    }

    /// The full names of the gRPC services that the process answers for.
    pub(crate) fn served(&self) -> BTreeSet<&'static str> {
        let own = self.services.iter().flat_map(|(_, own)| own).chain(&self.mesh_contracts);
        own.chain(&self.forwarded).copied().collect()
    }

    /// The names that have a health: those of its services, or that of the gateway.
    pub(crate) fn health_names(&self) -> Vec<&'static str> {
        let gateway = self.is_gateway.then_some(self.config.process);
        self.services.iter().map(|(service, _)| *service).chain(gateway).collect()
    }

    /// The services that the process calls, in memory or elsewhere.
    pub(crate) fn peers(&self) -> Peers {
        let Self { config, methods, .. } = self;
        let calling = Calling {
            deadline: config.call_deadline,
            transport: config.transport.clone(),
            passports: self.passports.clone(),
            metrics: self.metrics.clone(),
        };
        let discover = Arc::new(self.discovery.clone());
        if self.is_gateway {
            return Peers::passing_on(config.process, discover, methods.clone(), calling);
        }
        let local = self.services.iter().map(|(service, _)| *service).collect();
        Peers::new(config.process, local, discover, methods.clone(), calling)
    }
}

/// The full names of the gRPC services of mesh that a process with `services` serves.
fn mesh_contracts(services: &[Service], is_inspected: bool) -> Vec<&'static str> {
    let of_services: BTreeSet<_> = services.iter().flat_map(Service::contracts_of_mesh).collect();
    let of_process =
        [release::CONTRACT, health_service::NAME].into_iter().chain(is_inspected.then_some(inspect::CONTRACT));
    of_services.into_iter().chain(of_process).chain(reflection::NAMES).collect()
}
