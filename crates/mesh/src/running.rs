//! Builds a process from services and a configuration, serves, and drains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use mesh_dashboard::Dashboard;
use mesh_edge::Edge;
use mesh_events::{self as events, Keep, Published};
use mesh_feed::notifier::Notifier;
use mesh_follow::{self as follow, Copied, Follower};
use mesh_operations::{self as operations, Operations, Retention, Workers};
use mesh_rpc::auth::{Gate, Passports};
use mesh_rpc::call::{GrpcServices, Methods};
use mesh_rpc::client::{Calling, Declared, Peers};
use mesh_rpc::discovery::{Discovery, Registered, Registrant};
use mesh_rpc::server::layers::stack;
use mesh_rpc::server::{
    Admin, Answers, Check, Health, KnownPlaces, Listen, Ports, Readiness, Starting, certificate_check, health_service,
    intentions_check, reflection,
};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::{Tasks, alarm, raise_open_files};
use mesh_store::{Database, Limits, OpenError, Store, with_missing};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::calls::{self, ServiceCalls};
use crate::config::Config;
use crate::dashboard;
use crate::gate::{self, ReleaseGate};
use crate::inspect::{self, About};
use crate::places::Places;
use crate::process::Process;
use crate::release::{self, Releases};
use crate::resources::Resources;
use crate::schema::SCHEMA;
use crate::service::Service;

/// The interval of housekeeping, which deletes old rows and ends operations past their deadline. A shorter retention
/// shortens it.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// The time after the drain limit in which tasks are cut off and databases close.
const CLOSING: Duration = Duration::from_millis(1500);

/// A process that serves. A drop ends it at once; [`drain`](Self::drain) ends it in order.
pub struct Running {
    /// The address of the listener, with the actual port instead of port 0.
    pub address: SocketAddr,
    /// The address of the admin pages, if it is another.
    pub admin_address: Option<SocketAddr>,
    /// The address of the edge, if it is another.
    pub edge_address: Option<SocketAddr>,
    /// The edge, if it answers.
    pub(crate) edge: Option<Edge>,
    /// The dashboard, if there is one.
    pub(crate) dashboard: Option<Dashboard>,
    /// The methods of the contracts.
    pub(crate) methods: Methods,
    peers: Peers,
    registered: Registered,
    health: Health,
    stores: Vec<Store>,
    draining: CancellationToken,
    drain_limit: Duration,
    /// Listeners, connections and work, which a drain waits for.
    foreground: Tasks,
    /// Tasks that run until the foreground has ended.
    background: Tasks,
    _cut_on_drop: [DropGuard; 2],
}

/// Builds the services of `process` and serves them in tasks of the current runtime.
///
/// # Errors
///
/// An address that is taken, a database that cannot be opened, two services with the same contract. The message is one
/// line that says what to do.
pub async fn start(process: impl Into<Process>, config: &Config) -> anyhow::Result<Running> {
    let process = process.into();
    let sets = process.descriptors();
    let methods = Methods::of(&sets);
    let calls = process.declared_calls(&methods)?;
    let releases = Arc::new(Releases::of(&process, sets.clone(), &methods, &calls));
    let listeners = NonZeroU64::MIN.saturating_add(u64::from(config.edge.own_listener().is_some()));
    let limits = config.limits.within(raise_open_files(), listeners);
    // Before the databases: a second process then reports the taken address, not a locked file.
    let how = format!("--listen or {}", config.listen_variable);
    let listen = Listen { services: config.listen, admin: config.admin_listen, edge: config.edge.own_listener() };
    let ports = Ports::bind(listen, &how).await?;
    let addresses = ports.addresses()?;
    let about = About::of(&process, config, &calls, addresses);
    let is_inspected = inspect::is_served(&process, config, addresses.services.ip());
    let (foreground, background) = (Tasks::default(), Tasks::default());
    let _cut_on_drop = [foreground.cut_on_drop(), background.cut_on_drop()];
    let (draining, metrics, notifier) =
        (CancellationToken::new(), Metrics::keeping(config.keep_calls), Notifier::default());
    let elsewhere = process.gateway.map(|_| methods.public_services()).unwrap_or_default();
    let (is_gateway, services) = (process.gateway.is_some(), process.services);
    metrics.edges.runs(config.process, services.iter().map(Service::name));
    let names: Vec<_> = services.iter().map(|service| (service.name(), service.contracts())).collect();
    let own_contracts = own_contracts(&services, is_inspected);
    // A gateway has no service, and a certificate that may expire.
    let own_certificate = config.transport.certificates().filter(|_| is_gateway).map(|_| (config.process, Vec::new()));
    let health = Health::starting(names.iter().cloned().chain(own_certificate), own_contracts.clone());
    let (innermost, starting) = Starting::new(&health);
    let places = KnownPlaces::default();
    let passports = Passports::of_process(&config.auth, &config.transport, config.process);
    let passports = passports.map_err(anyhow::Error::msg)?;
    config.auth.warn_if_open([Some(addresses.services), addresses.edge].into_iter().flatten());
    let gate = Gate::new(&config.auth, passports.clone(), metrics.clone());
    gate.keep_fresh(&background);
    if let Some(intentions) = &config.auth.intentions {
        calls::warn_of_refused(&calls, intentions);
    }
    let stack = stack(innermost, limits, metrics.clone(), draining.clone(), Arc::clone(&places), gate.clone());
    let admin = Admin { health: health.clone(), metrics: metrics.clone() };
    let served: BTreeSet<_> =
        names.iter().flat_map(|(_, own)| own).chain(&own_contracts).chain(&elsewhere).copied().collect();
    metrics.serves(methods.of_contracts(&served));
    let outside = addresses.edge.unwrap_or(addresses.services);
    let edge = if config.edge.answers_at(outside) {
        let sets = with_own(&sets);
        let contracts = (&sets[..], &methods, &served);
        let (layers, tasks) = (stack.clone(), foreground.clone());
        let edge = Edge::new(&config.edge, outside, layers, gate, contracts, metrics.clone(), tasks)?;
        if let Some(tls) = config.edge.tls.clone() {
            background.run(tls.renew());
        }
        Some(edge)
    } else {
        if config.edge.enabled.is_none() {
            tracing::info!("HTTP is not answered at {outside}, where others can reach it: set edge.enabled");
        }
        None
    };
    // A gateway has no callers within the mesh.
    let layers = if is_gateway { mesh_edge::from_outside(stack.clone()) } else { stack.clone() };
    let discovery = Discovery::new(&config.registry, &background)?;
    if let Some(intentions) = &config.auth.intentions {
        discovery.follow_intentions(intentions);
    }
    let around = dashboard::Around {
        addresses,
        edge: edge.as_ref(),
        layers: &stack,
        methods: &methods,
        discovery: &discovery,
        metrics: &metrics,
        limits,
        draining: &draining,
        foreground: &foreground,
    };
    let (dashboard, page) = dashboard::open(config, around).await?;
    if let Some(dashboard) = dashboard.clone() {
        background.run(dashboard.run());
    }
    let answers = Answers {
        layers,
        methods: methods.clone(),
        admin,
        page,
        edge: edge.as_ref().map(Edge::answers),
        transport: config.inbound.clone(),
    };
    if let Some(source) = config.transport.source.clone() {
        background.run(source.renew(metrics.tls.clone()));
    }
    ports.accept(limits, &draining, &foreground, answers);

    let local = services.iter().map(Service::name).collect();
    let discover = Arc::new(discovery.clone());
    let (deadline, transport) = (config.call_deadline, config.transport.clone());
    let calling = Calling { deadline, transport, passports, metrics: metrics.clone() };
    let peers = if is_gateway {
        Peers::passing_on(config.process, discover, methods.clone(), calling)
    } else {
        Peers::new(config.process, local, discover, methods.clone(), calling)
    };
    let built = build(services, calls, config, &peers, &notifier, &background, &metrics).await?;
    let Built { mut grpc, stores, .. } = built;
    for operations in &built.operations {
        background.run(operations.clone().poll());
    }
    for store in stores.clone() {
        background.run(async move { store.sequence().await });
    }
    background.run(housekeeping(stores.clone(), built.operations.clone(), config.retention, config.keep_events));
    if !built.operations.is_empty() {
        operations::serve(built.operations, &mut grpc, draining.clone()).await?;
    }
    for published in &built.published {
        background.run(published.clone().poll());
        #[cfg(feature = "nats")]
        if let Some(servers) = config.nats.clone() {
            let nats = mesh_carrier::Nats::new(servers, published.service(), config.keep_events.0);
            let relay = mesh_carrier::Relay::new(published.clone(), nats, &metrics);
            foreground.run(relay.run(draining.clone()));
        }
    }
    if !built.published.is_empty() {
        events::serve(built.published, &mut grpc).await?;
    }
    if !built.followers.is_empty() {
        follow::serve(&built.followers, &mut grpc);
    }
    Arc::clone(&releases).serve(&mut grpc);
    if is_inspected {
        about.inspect(&metrics, &health).serve(&mut grpc);
    }
    health_service::serve(&health, &mut grpc);
    reflection::serve(&mut grpc, &elsewhere, &sets)?;

    let others = is_gateway.then(|| mesh_edge::forward(&peers, &with_own(&sets), &methods)).transpose()?;
    // It is empty: the process is built once.
    let _ = places.set(Box::new(built.places));
    let mut checks = built.checks;
    let own: Vec<_> = names.iter().map(|(service, _)| *service).chain(is_gateway.then_some(config.process)).collect();
    if let Some(source) = config.transport.certificates() {
        checks.extend(own.iter().map(|service| (*service, certificate_check(source.clone(), service))));
    }
    if let Some(intentions) = &config.auth.intentions {
        intentions.settled().await;
        checks.extend(own.iter().map(|service| (*service, intentions_check(intentions.clone()))));
    }
    health.look(&checks).await;
    // Until here, a signal ends the process without a drain.
    starting.serve(grpc, others);
    peers.ready(stack);
    background.run(health.clone().watch(checks));
    background.run(metrics.clone().publish_build());
    let transport = config.transport.clone();
    let is_newer = stores.iter().any(Store::is_newer);
    let release_gate = ReleaseGate::of(
        config.gating,
        releases,
        discovery.clone(),
        transport,
        health.clone(),
        metrics.clone(),
        is_newer,
    );
    let work = Work { workers: built.workers, followers: built.followers };
    let work = work.begin(draining.clone(), foreground.clone(), metrics.clone());
    let tasks = (&foreground, &background);
    let open = gate::open(release_gate, work, health.clone(), &draining, tasks).await?;
    // Last: a service that others find can be called.
    let check = config.inbound.is_mutual_at(addresses.services).then_some(addresses.admin).flatten();
    let registrant = |(service, contracts): (&'static str, _)| {
        let health = health.clone();
        Registrant { service, contracts, ready: Arc::new(move || health.is_ready(service)), check }
    };
    let registrants = names.into_iter().map(registrant).collect();
    let registered = discovery.register_when(&open, registrants, addresses.services, config.advertise.as_ref());
    Ok(Running {
        address: addresses.services,
        admin_address: addresses.admin,
        edge_address: addresses.edge,
        edge,
        dashboard,
        methods,
        peers,
        registered,
        health,
        stores,
        draining,
        drain_limit: config.drain.limit,
        foreground,
        background,
        _cut_on_drop,
    })
}

impl Running {
    /// A channel to one of its services, in memory.
    pub fn channel(&self, service: &'static str) -> mesh_rpc::client::Channel {
        self.peers.channel(service)
    }

    /// Drains: reports NOT_SERVING and deregisters, and serves all calls for `delay`, so that balancers notice. Then
    /// closes the listener, ends streams and finishes calls in flight. The drain limit, which includes the delay, cuts
    /// off the rest. Afterwards the databases are closed. All of it ends at most 1.5 s after the limit, also while work
    /// computes without an await.
    ///
    /// See: decision 0026.
    pub async fn drain(self, delay: Duration) {
        let limit = self.drain_limit;
        tokio::select! {
            () = self.drain_in_order(delay) => {}
            () = alarm(limit + CLOSING) => {
                tracing::warn!(?limit, "drain limit reached; work that computes without an await is abandoned");
            }
        }
    }

    async fn drain_in_order(self, delay: Duration) {
        let start = Instant::now();
        let until = start + self.drain_limit;
        self.health.drain();
        // Before the listener closes, so that callers choose another instance first.
        let deregistered = timeout_at(until, self.registered.deregister());
        let _ = tokio::join!(deregistered, sleep_until(until.min(start + delay)));
        self.draining.cancel();
        if timeout_at(until, self.foreground.finish()).await.is_err() {
            tracing::warn!(limit = ?self.drain_limit, "drain limit reached; calls and work still in flight are cut off");
        }
        self.foreground.cut();
        self.background.cut();
        self.foreground.finish().await;
        self.background.finish().await;
        // Bounded: a Postgres server that does not answer must not delay the exit.
        let closed = async {
            for store in &self.stores {
                store.close().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }
}

/// The descriptor sets of the system, and mesh's own.
fn with_own(system: &[&'static [u8]]) -> Vec<&'static [u8]> {
    system.iter().copied().chain([mesh_proto::FILE_DESCRIPTOR_SET]).collect()
}

/// The full names of the gRPC services of mesh that a process with `services` serves.
fn own_contracts(services: &[Service], is_inspected: bool) -> Vec<&'static str> {
    let of_services: BTreeSet<_> = services.iter().flat_map(Service::contracts_of_mesh).collect();
    let of_process =
        [release::CONTRACT, health_service::NAME].into_iter().chain(is_inspected.then_some(inspect::CONTRACT));
    of_services.into_iter().chain(of_process).chain(reflection::NAMES).collect()
}

struct Built {
    grpc: GrpcServices,
    checks: Vec<(&'static str, Check)>,
    stores: Vec<Store>,
    operations: Vec<Operations>,
    published: Vec<Published>,
    workers: Vec<Workers>,
    followers: Vec<Arc<Follower>>,
    places: Places,
}

/// What a process begins by itself, rather than for a caller.
struct Work {
    workers: Vec<Workers>,
    followers: Vec<Arc<Follower>>,
}

impl Work {
    /// Begins it.
    async fn begin(self, draining: CancellationToken, tasks: Tasks, metrics: Metrics) -> Result<(), mesh_store::Error> {
        for workers in self.workers {
            workers.start(&draining, &tasks, &metrics).await?;
        }
        for follower in self.followers {
            tasks.run(follower.run(draining.clone()));
        }
        Ok(())
    }
}

async fn build(
    services: Vec<Service>,
    mut calls: ServiceCalls,
    config: &Config,
    peers: &Peers,
    notifier: &Notifier,
    background: &Tasks,
    metrics: &Metrics,
) -> anyhow::Result<Built> {
    let mut built = Built {
        grpc: GrpcServices::new(),
        checks: Vec::new(),
        stores: Vec::new(),
        operations: Vec::new(),
        published: Vec::new(),
        workers: Vec::new(),
        followers: Vec::new(),
        places: Places::default(),
    };
    let owners = services.iter().filter(|service| service.owns_data());
    let databases: Vec<_> =
        owners.filter_map(|service| Some((service.name(), config.database(service.name())?))).collect();
    let mut unopened = &databases[..];
    for service in services {
        let (name, sources) = (service.name(), service.sources()?);
        let store = match unopened.split_first() {
            Some(((owner, (database, limits)), others)) if *owner == name => {
                unopened = others;
                match open(&service, database, *limits).await {
                    Ok(store) => Some(store),
                    Err(error) => return Err(with_missing(error, others).await.into()),
                }
            }
            _ => None,
        };
        let operations = store.clone().filter(|_| service.does_long_work());
        let operations = operations.map(|store| {
            let (operations, queue) = Operations::new(name, store, notifier.clone());
            background.run(queue.write());
            operations
        });
        if let (Some(store), Some(publishes)) = (store.clone(), service.published()) {
            let published = Published::new(name, store, notifier.clone(), publishes.clone());
            built.places.publishes(name, published.clone());
            built.published.push(published);
        }
        let declared = calls.remove(name).unwrap_or_default().into_iter().map(|call| (call.peer, call.method));
        let peers = peers.of(name, Declared::new(name, declared, metrics.clone()));
        let settings = config.settings(name);
        let copies = copies(store.as_ref(), &sources).await?;
        built.places.follows(name, copies.clone());
        let resources =
            Resources { service: name, store: store.clone(), operations: operations.clone(), copies, peers, settings };
        let (kinds, followers) = service.build(&resources, &mut built.grpc, metrics)?;
        for kind in &kinds {
            kind.check_kept(name, config.retention).map_err(anyhow::Error::msg)?;
        }
        built.followers.extend(followers.into_iter().map(Arc::new));
        if let Some(operations) = operations {
            built.workers.push(Workers::new(operations.clone(), kinds));
            built.operations.push(operations);
        }
        built.checks.extend(store.clone().map(|store| (name, database_check(store))));
        built.stores.extend(store);
    }
    Ok(built)
}

/// The copies of what a service follows.
async fn copies(
    store: Option<&Store>,
    sources: &[&'static str],
) -> Result<BTreeMap<&'static str, Copied>, mesh_store::Error> {
    let mut copies = BTreeMap::new();
    for (store, source) in store.into_iter().flat_map(|store| sources.iter().map(move |source| (store, *source))) {
        copies.insert(source, Copied::open(store, source).await?);
    }
    Ok(copies)
}

/// Opens the database of a service, with the migrations of mesh and of the service.
pub(crate) async fn open(service: &Service, database: &Database, limits: Limits) -> Result<Store, OpenError> {
    let store = mesh_store::open_within(service.name(), database, limits, &SCHEMA, service.migrations()).await?;
    if limits.statement_cache > 0 && !store.keeps_statements() {
        tracing::info!(
            service = service.name(),
            "a pooler shares database sessions between clients: prepared statements are off; set \
             database.statement_cache to 0 to skip the check"
        );
    }
    Ok(store)
}

/// The readiness check of a service: its database answers, and takes writes.
fn database_check(store: Store) -> Check {
    Box::new(move |limit| {
        let store = store.clone();
        Box::pin(async move {
            match store.check(limit).await {
                Ok(None) => Readiness::Ready,
                Ok(Some(degraded)) => Readiness::Degraded(degraded.to_string()),
                Err(error) => Readiness::NotReady(error.to_string()),
            }
        })
    })
}

async fn housekeeping(stores: Vec<Store>, all: Vec<Operations>, retention: Retention, keep: Keep) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING.min(retention.operations).min(retention.events).min(keep.0));
    let mut failing = false;
    loop {
        ticks.tick().await;
        let mut done = Vec::new();
        for operations in &all {
            done.push(operations::end_past_deadline(operations).await);
        }
        for store in &stores {
            done.extend([store.delete_old_answers().await, operations::delete_old(store, retention).await]);
            done.push(events::delete_old(store, keep).await);
        }
        let failed = done.into_iter().find_map(Result::err);
        // One warning an outage, not one a round and a database.
        match (&failed, failing) {
            (Some(error), false) => tracing::warn!(%error, "housekeeping failed; every round retries until it works"),
            (None, true) => tracing::info!("housekeeping works again"),
            _ => {}
        }
        failing = failed.is_some();
    }
}
