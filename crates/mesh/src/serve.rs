//! Serving: from services as their authors describe them to a process that answers, and back to one that has ended.

mod admin;
mod connection;
mod deadline;
mod drain;
mod intake;
mod listener;
mod panics;
mod reasons;
mod shed;
mod stack;
mod tasks;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use http::{Request, header};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;

use crate::channel::Peers;
use crate::config::{Config, Limits, Retention};
use crate::contract::{self, Methods};
use crate::handler::{Answering, Call, GrpcServices, Handler, add};
use crate::health::{Health, Watched};
use crate::operations::{self, Operations, Wakes, Workers};
use crate::registry::{Registered, Registrant, Registry};
use crate::service::{Resources, Service};
use crate::store::{self, Store};
use crate::telemetry::Metrics;
use admin::Admin;
#[cfg(feature = "testing")]
pub(crate) use connection::Connection;
pub(crate) use stack::stack;
#[cfg(feature = "testing")]
pub(crate) use stack::{Layer, dispatch, layers};
pub(crate) use tasks::Tasks;

/// How often a store forgets what it need not keep, and ends what is out of time; oftener if it keeps something for less
/// than that.
const HOUSEKEEPING: Duration = Duration::from_secs(3600);

/// A process that serves. Dropping it ends it at once; [`drain`](Self::drain) ends it well.
pub struct Running {
    /// Where it serves, with the port that port 0 became.
    pub address: SocketAddr,
    /// Where the pages for operators are, if not there.
    pub admin_address: Option<SocketAddr>,
    peers: Peers,
    registered: Registered,
    health: Health,
    stores: Vec<Store>,
    draining: CancellationToken,
    drain_limit: Duration,
    /// Listeners, connections, work: what a drain waits for.
    foreground: Tasks,
    /// What goes on until nothing else does.
    background: Tasks,
    _cut_on_drop: [DropGuard; 2],
}

/// Builds `services` and begins to serve them.
///
/// # Errors
///
/// One line that says what to do: an address that is taken, a database that cannot be opened.
pub async fn start(services: Vec<Service>, config: &Config) -> anyhow::Result<Running> {
    // Before the databases: a second process should learn that the address is taken, not that a file is locked.
    let listeners = Listeners::bind(config).await?;
    let (foreground, background) = (Tasks::default(), Tasks::default());
    let _cut_on_drop = [foreground.cut_on_drop(), background.cut_on_drop()];
    let (draining, metrics, wakes) = (CancellationToken::new(), Metrics::new(), Wakes::default());

    let sets: Vec<_> = services.iter().map(Service::descriptors).collect();
    let methods = Methods::of(&sets);
    let local = services.iter().map(Service::name).collect();
    let registry = Registry::new(&config.registry, &background)?;
    let peers = Peers::new(local, registry.clone(), methods.clone(), config.call_deadline, metrics.clone());
    let built = build(services, config, &peers, &wakes, &background).await?;
    let registrant = |service: &Watched| Registrant { service: service.name, contracts: service.contracts.clone() };
    let registrants = built.watched.iter().map(registrant).collect();
    let stores: Vec<_> = built.watched.iter().filter_map(|service| service.store.clone()).collect();
    let mut grpc = built.grpc;
    for operations in &built.operations {
        background.run(operations.clone().poll());
    }
    background.run(housekeeping(stores.clone(), built.operations.clone(), config.retention));
    if !built.operations.is_empty() {
        operations::serve(built.operations, &mut grpc, draining.clone()).await?;
    }
    let (reporter, health_service) = tonic_health::server::health_reporter();
    add(&mut grpc, health_service);
    serve_reflection(&mut grpc, &sets)?;

    let stack = stack(grpc, config.limits, metrics.clone(), draining.clone());
    peers.ready(stack.clone());
    for workers in built.workers {
        workers.start(&draining, &foreground).await?;
    }
    let health = Health::new(reporter, built.watched).await;
    background.run(health.clone().watch());

    let admin = Admin { health: health.clone(), metrics };
    let (address, admin_address) = listeners.serve(stack, methods, admin, config.limits, &draining, &foreground)?;
    // Last: whoever finds a service here can call it.
    let registered = registry.register(registrants, &health, address, config.advertise.as_ref());
    Ok(Running {
        address,
        admin_address,
        peers,
        registered,
        health,
        stores,
        draining,
        drain_limit: config.drain_limit,
        foreground,
        background,
        _cut_on_drop,
    })
}

impl Running {
    /// A channel to one of its services, as a service in the same process would have it.
    pub fn channel(&self, service: &'static str) -> crate::Channel {
        self.peers.channel(service)
    }

    /// Ends well: not to be found and not ready any more, no new connections, streams ended, calls in flight finished,
    /// all of it within the drain limit; what is left then is cut off.
    pub async fn drain(self) {
        let until = Instant::now() + self.drain_limit;
        self.health.drain().await;
        // Before anything is refused here, so that callers look elsewhere first.
        let _ = timeout_at(until, self.registered.withdraw()).await;
        self.draining.cancel();
        if timeout_at(until, self.foreground.finish()).await.is_err() {
            tracing::warn!(limit = ?self.drain_limit, "drain limit reached; what was still in flight is cut off");
        }
        self.foreground.cut();
        self.background.cut();
        self.foreground.finish().await;
        self.background.finish().await;
        // What is being written is soon done; a Postgres that does not answer must not hold the process.
        let closed = async {
            for store in &self.stores {
                store.close().await;
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
    }
}

/// What this process listens on.
struct Listeners {
    services: TcpListener,
    /// For the pages for operators, if they are not to be where the services are.
    admin: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let services = listener::bind(config.listen, &format!("--listen or {}", config.listen_variable)).await?;
        let admin = match config.admin_listen {
            Some(address) => Some(listener::bind(address, "admin.listen or MESH__ADMIN__LISTEN").await?),
            None => None,
        };
        Ok(Self { services, admin })
    }

    /// Answers until `draining`; where.
    fn serve(
        self,
        stack: Handler,
        methods: Methods,
        admin: Admin,
        limits: Limits,
        draining: &CancellationToken,
        tasks: &Tasks,
    ) -> anyhow::Result<(SocketAddr, Option<SocketAddr>)> {
        let address = self.services.local_addr()?;
        let admin_address = self.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let here = self.admin.is_none().then(|| admin.clone());
        let answer = answer(stack, methods, here);
        tasks.run(listener::serve(self.services, draining.clone(), tasks.clone(), limits, answer));
        if let Some(listener) = self.admin {
            let pages = move |request: Request<Incoming>| std::future::ready(admin.answer(&request));
            tasks.run(listener::serve(listener, draining.clone(), tasks.clone(), limits, pages));
        }
        Ok((address, admin_address))
    }
}

struct Built {
    grpc: GrpcServices,
    watched: Vec<Watched>,
    operations: Vec<Operations>,
    workers: Vec<Workers>,
}

async fn build(
    services: Vec<Service>,
    config: &Config,
    peers: &Peers,
    wakes: &Wakes,
    background: &Tasks,
) -> anyhow::Result<Built> {
    let mut built =
        Built { grpc: GrpcServices::new(), watched: Vec::new(), operations: Vec::new(), workers: Vec::new() };
    for service in services {
        let (name, contracts) = (service.name(), service.contracts());
        let store = match config.database(name) {
            Some(database) if service.owns_data() => Some(store::open(name, database, service.migrations()).await?),
            _ => None,
        };
        let operations = store.clone().filter(|_| service.does_long_work());
        let operations = operations.map(|store| {
            let (operations, queue) = Operations::new(name, store, wakes.clone());
            background.run(queue.write(operations.clone()));
            operations
        });
        let peers = peers.clone();
        let resources = Resources { service: name, store: store.clone(), operations: operations.clone(), peers };
        let kinds = service.build(&resources, &mut built.grpc)?;
        if let Some(operations) = operations {
            built.workers.push(Workers::new(operations.clone(), kinds));
            built.operations.push(operations);
        }
        built.watched.push(Watched { name, contracts, store });
    }
    Ok(built)
}

/// Reflection lists what this process serves and nothing else, in the version of today and in the one older tools ask.
fn serve_reflection(grpc: &mut GrpcServices, system: &[&[u8]]) -> anyhow::Result<()> {
    const V1: &str = "grpc.reflection.v1.ServerReflection";
    const V1ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";
    let names: BTreeSet<_> = grpc.keys().copied().collect();
    let builder = || {
        // A file that several sets hold counts once.
        let sets = contract::OWN.iter().chain(system);
        let sets = sets.fold(tonic_reflection::server::Builder::configure(), |sets, set| {
            sets.register_encoded_file_descriptor_set(set)
        });
        let sets = sets.include_reflection_service(false);
        names.iter().chain(&[V1, V1ALPHA]).fold(sets, |sets, name| sets.with_service_name(*name))
    };
    add(grpc, builder().build_v1().context("reflection")?);
    add(grpc, builder().build_v1alpha().context("reflection")?);
    Ok(())
}

/// What one port answers: gRPC, and the pages for operators unless they have a port of their own.
fn answer(stack: Handler, methods: Methods, admin: Option<Admin>) -> impl Fn(Request<Incoming>) -> Answering + Clone {
    move |request| {
        if !is_grpc(&request) {
            let page = admin.as_ref().map_or_else(admin::not_found, |admin| admin.answer(&request));
            Box::pin(std::future::ready(page))
        } else if request.version() != http::Version::HTTP_2 {
            Box::pin(std::future::ready(admin::needs_http_2()))
        } else {
            let method = methods.find(request.uri().path());
            stack(Call { method, request: request.map(Body::new) })
        }
    }
}

/// `application/grpc`, also with a format behind it; not `application/grpc-web`, which is another protocol.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let rest = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

async fn housekeeping(stores: Vec<Store>, all: Vec<Operations>, retention: Retention) {
    let mut ticks = tokio::time::interval(HOUSEKEEPING.min(retention.operations).min(retention.events));
    loop {
        ticks.tick().await;
        let mut done = Vec::new();
        for operations in &all {
            done.push(operations::end_overdue(operations).await);
        }
        for store in &stores {
            done.extend([store.forget_answers().await, operations::forget(store, retention).await]);
        }
        for error in done.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, "housekeeping failed; it is tried again later");
        }
    }
}
