//! The declaration of a service: name, schema, contracts, calls, long work, events, settings.

use std::time::Duration;

use mesh_events::Publishes;
use mesh_follow::{Follow, Follower};
use mesh_operations::saga::Saga;
use mesh_operations::{Kind, Work};
use mesh_proto::Events;
use mesh_rpc::call::{GrpcServer, GrpcService, GrpcServices};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::settings::{Declared, Setting, Value};
use mesh_store::{Error, Migration, Store};
use prost::Name as _;

use crate::calls::{Callee, Calls, DeclaredCall, System};
use crate::follows::{Followed, Follows};
use crate::resources::Resources;

/// The declaration of a service. Pass it to [`crate::run`], alone or with others.
pub struct Service {
    name: &'static str,
    descriptors: &'static [u8],
    port: u16,
    migrations: &'static [Migration],
    contracts: Vec<Contract>,
    works: Vec<BuildKind>,
    /// What its long work keeps in the database: kinds, steps and requests.
    stores: Vec<String>,
    publishes: Option<Publishes>,
    follows: Follows,
    calls: Calls,
    settings: Vec<Declared>,
    examples: Vec<Example>,
}

/// The keys under `services.NAME` that belong to mesh.
const RESERVED: [&str; 2] = ["listen", "database_url"];

type BuildKind = Box<dyn FnOnce(&Resources) -> Result<Kind, String> + Send>;

/// A gRPC service: its full name, and the function that builds it from the resources.
struct Contract {
    name: &'static str,
    build: Box<dyn FnOnce(&Resources) -> GrpcService + Send>,
}

/// An example call, printed with grpcurl.
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) method: &'static str,
    pub(crate) request: &'static str,
}

impl Service {
    /// Declares a service. `name` is also the first segment of the package of its contract: `catalog`. `descriptors`
    /// holds the contracts of the system, `contracts::FILE_DESCRIPTOR_SET`, an encoded
    /// `google.protobuf.FileDescriptorSet`: reflection serves them, and calls take their retry rules and deadlines from
    /// them.
    pub fn new(name: &'static str, descriptors: &'static [u8]) -> Self {
        let (contracts, works, stores, settings, examples) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (publishes, follows, calls) = (None, Follows::default(), Calls::default());
        let (port, migrations) = (0, &[][..]);
        Self {
            name,
            descriptors,
            port,
            migrations,
            contracts,
            works,
            stores,
            publishes,
            follows,
            calls,
            settings,
            examples,
        }
    }

    /// The default port of the service in a process of its own.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The migrations of its schema. A service without migrations and without long work has no database.
    #[must_use]
    pub fn owns(mut self, migrations: &'static [Migration]) -> Self {
        self.migrations = migrations;
        self
    }

    /// Adds a contract: `.serves(|resources| CatalogServiceServer::new(…))`.
    #[must_use]
    pub fn serves<S: GrpcServer>(mut self, build: impl FnOnce(&Resources) -> S + Send + 'static) -> Self {
        let build = Box::new(move |resources: &Resources| GrpcService::new(build(resources)));
        self.contracts.push(Contract { name: S::NAME, build });
        self
    }

    /// Adds a setting of the service, under the key `services.NAME.KEY`. It is read from file, environment and flags
    /// and checked as all other keys. The service reads it with [`Resources::setting`].
    ///
    /// # Panics
    ///
    /// If the name is reserved (`listen`, `database_url`) or declared twice.
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

    /// Adds a kind of long work: `.works(|resources| Render::new(…))`. Its operations are in the database of the
    /// service.
    #[must_use]
    pub fn works<W: Work>(mut self, build: impl FnOnce(&Resources) -> W + Send + 'static) -> Self {
        self.stores.extend([W::KIND.to_owned(), W::Request::full_name()]);
        self.works.push(Box::new(move |resources| Ok(Kind::new(build(resources)))));
        self
    }

    /// Adds housekeeping, work that the service itself starts: `.every(HOUR, |resources| Purge::new(…))`. The first run
    /// starts with the first process, each further one at the interval after the start of the last, in one process of
    /// all replicas, and not before the last has ended. Its operations are in the database of the service. A process
    /// does not start with an interval below 1 s or above `operations.keep`.
    #[must_use]
    pub fn every<W>(mut self, interval: Duration, build: impl FnOnce(&Resources) -> W + Send + 'static) -> Self
    where
        W: Work<Request = (), Response = ()>,
    {
        self.works.push(Box::new(move |resources| Kind::every(interval, build(resources))));
        self
    }

    /// Adds a kind of saga, long work with a way back: `.runs(|resources| Rent::new(…))`. Its operations are in the
    /// database of the service. A process whose saga has two steps of one name, or two pivots, does not start.
    #[must_use]
    pub fn runs<S: Saga>(mut self, build: impl FnOnce(&Resources) -> S + Send + 'static) -> Self {
        self.stores.extend([S::KIND.to_owned(), S::Request::full_name()]);
        self.stores.extend(S::STEPS.iter().map(|step| format!("{}/{}", S::KIND, step.name())));
        self.works.push(Box::new(move |resources| Kind::saga(build(resources))));
        self
    }

    /// Declares that others may follow the events of the service: `.publishes(snapshot)`. `snapshot(store, after,
    /// limit)` returns the present state for a new reader: the rows behind a key, in the order of their keys, as
    /// events, `limit` at most. The key is empty at first.
    ///
    /// # Panics
    ///
    /// If it is declared twice.
    #[must_use]
    pub fn publishes<E, F, S>(mut self, snapshot: S) -> Self
    where
        E: Events,
        F: Future<Output = Result<Vec<E>, Error>> + Send + 'static,
        S: Fn(Store, String, i64) -> F + Send + Sync + 'static,
    {
        assert!(self.publishes.is_none(), "`{}` declares twice what it publishes: join the two", self.name);
        self.publishes = Some(Publishes::new(snapshot));
        self
    }

    /// Follows the events of another service, so that this one keeps a copy of its own: `.follows(|resources| Titles)`.
    /// The copy and the place in the events are in the database of the service. A process does not start if the service
    /// follows itself, follows a service twice, or has no database for a copy.
    #[must_use]
    pub fn follows<F: Follow>(mut self, build: impl FnOnce(&Resources) -> F + Send + 'static) -> Self {
        self.follows.add(build);
        self
    }

    /// Declares methods of a peer that the service calls: `.calls("catalog.v1.CatalogService", &["GetTitle"])`. A
    /// contract that every service may serve takes the name of the peer, too: `.calls(("artwork",
    /// "google.longrunning.Operations"), &["GetOperation"])`. What [`follows`](Self::follows) calls is declared by it.
    ///
    /// A call without a declaration fails in a build with debug assertions, and so in tests: INTERNAL, reason
    /// `UNDECLARED_CALL`. Other builds make it, and count it in `mesh_calls_undeclared_total`. A process does not start
    /// if no contract has a declared method, or if one is declared twice.
    ///
    /// See: docs/guide/peers.md
    #[must_use]
    pub fn calls(mut self, contract: impl Into<Callee>, methods: &[&'static str]) -> Self {
        self.calls.add(contract.into(), methods, false);
        self
    }

    /// Declares methods as [`calls`](Self::calls) does, of a peer that the service can do without: it answers if the
    /// peer is away, or lacks the method.
    #[must_use]
    pub fn calls_if_there(mut self, contract: impl Into<Callee>, methods: &[&'static str]) -> Self {
        self.calls.add(contract.into(), methods, true);
        self
    }

    /// Adds an example call, printed when the process serves: a method of its contract, and the request as JSON.
    /// `{uuid}` is replaced by a new UUID.
    #[must_use]
    pub fn example(mut self, method: &'static str, request: &'static str) -> Self {
        self.examples.push(Example { method, request });
        self
    }

    /// The name of the service.
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

    /// The full names of its gRPC services.
    pub(crate) fn contracts(&self) -> Vec<&'static str> {
        self.contracts.iter().map(|contract| contract.name).collect()
    }

    /// The full names of the gRPC services of mesh that it serves.
    pub(crate) fn contracts_of_mesh(&self) -> Vec<&'static str> {
        let operations = mesh_operations::CONTRACTS.into_iter().filter(|_| self.does_long_work());
        let events = self.publishes.iter().map(|_| mesh_events::CONTRACT);
        operations.chain(events).chain(self.follows_others().then_some(mesh_follow::CONTRACT)).collect()
    }

    /// What its long work keeps in the database.
    pub(crate) fn stores(&self) -> &[String] {
        &self.stores
    }

    /// What it follows.
    pub(crate) fn followed(&self) -> Vec<Followed> {
        self.follows.followed().collect()
    }

    pub(crate) fn settings(&self) -> &[Declared] {
        &self.settings
    }

    pub(crate) fn examples(&self) -> &[Example] {
        &self.examples
    }

    /// Whether the service has a database, for its schema or for its operations.
    pub(crate) fn owns_data(&self) -> bool {
        !self.migrations.is_empty() || self.does_long_work() || self.publishes.is_some()
    }

    pub(crate) fn does_long_work(&self) -> bool {
        !self.works.is_empty()
    }

    /// What others may follow.
    pub(crate) fn published(&self) -> Option<&Publishes> {
        self.publishes.as_ref()
    }

    pub(crate) fn follows_others(&self) -> bool {
        !self.follows.is_empty()
    }

    /// The services whose events it follows.
    ///
    /// # Errors
    ///
    /// What is wrong with them: one line.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<&'static str>> {
        self.follows.check(self.name, self.owns_data())
    }

    /// The calls that it declares, and those of its followers.
    ///
    /// # Errors
    ///
    /// What is wrong with them: one line.
    pub(crate) fn declared_calls(&self, system: &System) -> anyhow::Result<Vec<DeclaredCall>> {
        let sources = self.follows.followed().map(|(source, _)| source);
        self.calls.check(self.name, sources, system)
    }

    /// Builds its gRPC services into `services`, and returns its kinds of work and its followers.
    pub(crate) fn build(
        self,
        resources: &Resources,
        services: &mut GrpcServices,
        metrics: &Metrics,
    ) -> anyhow::Result<(Vec<Kind>, Vec<Follower>)> {
        for contract in self.contracts {
            let twice = services.insert(contract.name, (contract.build)(resources)).is_some();
            anyhow::ensure!(!twice, "two services of this process serve {}: remove one of them", contract.name);
        }
        let kinds = self.works.into_iter().map(|build| build(resources).map_err(anyhow::Error::msg));
        Ok((kinds.collect::<anyhow::Result<_>>()?, self.follows.build(resources, metrics)))
    }
}
