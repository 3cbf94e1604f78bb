//! What a service is made of, as its author says it: a name, the schema it owns, and the contracts it serves.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;

use crate::channel::{Channel, Peers};
use crate::handler::{GrpcService, GrpcServices};
use crate::operations::{Kind, Operations, Work};
use crate::store::{Migration, Store};

/// The port of a process that runs several services, unless it is configured.
const MONOLITH_PORT: u16 = 8080;

/// A service, described and not yet running. Give it to [`crate::run`], alone or with others.
pub struct Service {
    name: &'static str,
    descriptors: &'static [u8],
    port: u16,
    migrations: &'static [Migration],
    contracts: Vec<Contract>,
    works: Vec<BuildKind>,
    examples: Vec<Example>,
}

type BuildKind = Box<dyn FnOnce(&Resources) -> Kind + Send>;

/// One gRPC service of a service: its full name, and how it is built once the service has what it owns.
pub(crate) struct Contract {
    pub(crate) name: &'static str,
    pub(crate) build: Box<dyn FnOnce(&Resources) -> GrpcService + Send>,
}

/// A call that works when it is pasted.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) method: &'static str,
    pub(crate) request: &'static str,
}

impl Service {
    /// A service by its name, which is also the first segment of its contract's package: `catalog`; and the contracts
    /// of the system it belongs to, `contracts::FILE_DESCRIPTOR_SET`, an encoded `google.protobuf.FileDescriptorSet`.
    /// Reflection serves them, and calls take from them what may be retried and how long to wait.
    pub fn new(name: &'static str, descriptors: &'static [u8]) -> Self {
        let (migrations, contracts, works, examples) = (&[][..], Vec::new(), Vec::new(), Vec::new());
        Self { name, descriptors, port: 0, migrations, contracts, works, examples }
    }

    /// The port it has when it runs alone and nobody configured another.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The schema it owns. A service that owns nothing leaves this out; unless it does long work, it has no database.
    #[must_use]
    pub fn owns(mut self, migrations: &'static [Migration]) -> Self {
        self.migrations = migrations;
        self
    }

    /// A contract it serves: `.serves(|resources| CatalogServiceServer::new(…))`.
    #[must_use]
    pub fn serves<S>(mut self, build: impl FnOnce(&Resources) -> S + Send + 'static) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let build = Box::new(move |resources: &Resources| GrpcService::new(build(resources)));
        self.contracts.push(Contract { name: S::NAME, build });
        self
    }

    /// Long work that it does: `.works(|resources| Render::new(…))`. Its operations are in its database.
    #[must_use]
    pub fn works<W: Work>(mut self, build: impl FnOnce(&Resources) -> W + Send + 'static) -> Self {
        self.works.push(Box::new(move |resources| Kind::new(build(resources))));
        self
    }

    /// A call for people to begin with, printed when the process serves: a method of its contract, and the request as JSON, in
    /// which `{uuid}` becomes a fresh one.
    #[must_use]
    pub fn example(mut self, method: &'static str, request: &'static str) -> Self {
        self.examples.push(Example { method, request });
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn descriptors(&self) -> &'static [u8] {
        self.descriptors
    }

    pub(crate) fn migrations(&self) -> &'static [Migration] {
        self.migrations
    }

    /// The full names of the gRPC services it serves.
    pub(crate) fn contracts(&self) -> Vec<&'static str> {
        self.contracts.iter().map(|contract| contract.name).collect()
    }

    pub(crate) fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Whether it has a database: for what it owns, or for the operations of its long work.
    pub(crate) fn owns_data(&self) -> bool {
        !self.migrations.is_empty() || self.does_long_work()
    }

    pub(crate) fn does_long_work(&self) -> bool {
        !self.works.is_empty()
    }

    /// Builds what it serves, and gives the kinds of work it does.
    pub(crate) fn build(self, resources: &Resources, services: &mut GrpcServices) -> anyhow::Result<Vec<Kind>> {
        for contract in self.contracts {
            let twice = services.insert(contract.name, (contract.build)(resources)).is_some();
            anyhow::ensure!(!twice, "two services of this process serve {}: remove one of them", contract.name);
        }
        Ok(self.works.into_iter().map(|build| build(resources)).collect())
    }
}

/// Services that run in one process: one of them, or all of them. The code is the same; the process has the name and
/// the port of its one service, or those of a monolith.
pub struct Process {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) services: Vec<Service>,
    /// Whether this is one service in a process of its own.
    pub(crate) alone: bool,
}

impl From<Service> for Process {
    fn from(service: Service) -> Self {
        Self { name: service.name, port: service.port, services: vec![service], alone: true }
    }
}

impl<const N: usize> From<[Service; N]> for Process {
    fn from(services: [Service; N]) -> Self {
        Self { name: "monolith", port: MONOLITH_PORT, services: services.into(), alone: false }
    }
}

/// What the kit hands a service when it is built.
pub struct Resources {
    pub(crate) service: &'static str,
    pub(crate) store: Option<Store>,
    pub(crate) operations: Option<Operations>,
    pub(crate) peers: Peers,
}

impl Resources {
    /// The database that the service owns.
    ///
    /// # Panics
    ///
    /// If the service said nothing of what it [`owns`](Service::owns): then it has no database.
    pub fn store(&self) -> Store {
        match &self.store {
            Some(store) => store.clone(),
            None => panic!("`{}` has no database: say what it owns with Service::owns", self.service),
        }
    }

    /// The operations of the service.
    ///
    /// # Panics
    ///
    /// If the service said nothing of the long work it does with [`works`](Service::works).
    pub fn operations(&self) -> Operations {
        match &self.operations {
            Some(operations) => operations.clone(),
            None => panic!("`{}` does no long work: say what it does with Service::works", self.service),
        }
    }

    /// A channel to another service of the mesh, wherever it runs: `CatalogServiceClient::new(resources.channel("catalog"))`.
    pub fn channel(&self, service: &'static str) -> Channel {
        self.peers.channel(service)
    }
}
