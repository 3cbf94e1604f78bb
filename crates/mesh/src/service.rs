//! A service as its author describes it: a name, the schema it owns, the contracts it serves, its long work, its settings.

use std::convert::Infallible;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;

use mesh_operations::{Kind, Operations, Work};
use mesh_rpc::call::{GrpcService, GrpcServices};
use mesh_rpc::client::{Channel, Peers};
use mesh_runtime::settings::{Declared, Setting, Value, Values};
use mesh_store::{Migration, Store};

/// A service, described and not yet running. Give it to [`crate::run`], alone or with others.
pub struct Service {
    name: &'static str,
    descriptors: &'static [u8],
    port: u16,
    migrations: &'static [Migration],
    contracts: Vec<Contract>,
    works: Vec<BuildKind>,
    settings: Vec<Declared>,
    examples: Vec<Example>,
}

/// The keys under `services.NAME` that mesh has itself.
const RESERVED: [&str; 2] = ["listen", "database_url"];

type BuildKind = Box<dyn FnOnce(&Resources) -> Kind + Send>;

/// One gRPC service of a service: its full name, and how it is built once the service has what it owns.
struct Contract {
    name: &'static str,
    build: Box<dyn FnOnce(&Resources) -> GrpcService + Send>,
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
        let (contracts, works, settings, examples) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name, descriptors, port: 0, migrations: &[], contracts, works, settings, examples }
    }

    /// The port of the service in a process of its own, unless another is configured.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The schema it owns. A service without a schema and without long work has no database.
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

    /// A setting of its own, key `services.NAME.KEY`: read from file, environment and flags as all others, and checked with
    /// them. The service reads it with [`Resources::setting`].
    ///
    /// # Panics
    ///
    /// If mesh has a key of this name (`listen`, `database_url`), or the service has declared it before.
    #[must_use]
    pub fn setting<T: Value>(mut self, setting: &'static Setting<T>) -> Self {
        let declared = Declared::new(setting);
        let taken = RESERVED.contains(&declared.name()) || self.settings.iter().any(|it| it.name() == declared.name());
        assert!(
            !taken,
            "`{}` declares the setting `{}`, which is taken: name it differently",
            self.name,
            declared.name()
        );
        self.settings.push(declared);
        self
    }

    /// Long work that it does: `.works(|resources| Render::new(…))`. Its operations are in its database.
    #[must_use]
    pub fn works<W: Work>(mut self, build: impl FnOnce(&Resources) -> W + Send + 'static) -> Self {
        self.works.push(Box::new(move |resources| Kind::new(build(resources))));
        self
    }

    /// A first call, printed when the process serves: a method of its contract, and the request as JSON, in which `{uuid}`
    /// becomes a fresh UUID.
    #[must_use]
    pub fn example(mut self, method: &'static str, request: &'static str) -> Self {
        self.examples.push(Example { method, request });
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn own_port(&self) -> u16 {
        self.port
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

    pub(crate) fn settings(&self) -> &[Declared] {
        &self.settings
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

/// What a service is given when it is built.
pub struct Resources {
    pub(crate) service: &'static str,
    pub(crate) store: Option<Store>,
    pub(crate) operations: Option<Operations>,
    pub(crate) peers: Peers,
    pub(crate) settings: Values,
}

impl Resources {
    /// The database that the service owns.
    ///
    /// # Panics
    ///
    /// If the service declares nothing that it [`owns`](Service::owns), and so has no database.
    pub fn store(&self) -> Store {
        match &self.store {
            Some(store) => store.clone(),
            None => panic!("`{}` has no database: declare what it owns with Service::owns", self.service),
        }
    }

    /// The operations of the service.
    ///
    /// # Panics
    ///
    /// If the service declares no long work with [`works`](Service::works).
    pub fn operations(&self) -> Operations {
        match &self.operations {
            Some(operations) => operations.clone(),
            None => panic!("`{}` does no long work: declare it with Service::works", self.service),
        }
    }

    /// The value of a setting of its own.
    ///
    /// # Panics
    ///
    /// If the service does not declare it with [`setting`](Service::setting).
    pub fn setting<T: Value>(&self, setting: &Setting<T>) -> T {
        match self.settings.get(setting) {
            Some(value) => value,
            None => panic!("`{}` does not declare the setting `{}`", self.service, setting.name()),
        }
    }

    /// A channel to another service of the mesh, wherever it runs: `CatalogServiceClient::new(resources.channel("catalog"))`.
    pub fn channel(&self, service: &'static str) -> Channel {
        self.peers.channel(service)
    }
}
