//! Builds a process from services and a configuration, serves, and drains.

mod built;
mod front;
mod housekeeping;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use mesh_dashboard::Dashboard;
use mesh_edge::Edge;
use mesh_rpc::call::Methods;
use mesh_rpc::client::Peers;
use mesh_rpc::discovery::{Registered, Registrant};
use mesh_rpc::server::{Health, Limits, Listen, Ports, health_service, process_checks, reflection};
use mesh_runtime::{Tasks, alarm, raise_open_files};
use mesh_store::Store;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::calls;
use crate::common::Common;
use crate::config::Config;
use crate::gate::{self, ReleaseGate};
use crate::inspect::{self, About};
use crate::process::Process;
use crate::release::Releases;
use built::Built;
use front::Front;

pub(crate) use built::open;

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
    // Before the databases: a second process then reports the taken address, not a locked file.
    let (ports, limits) = bind(config).await?;
    let common = Common::of(&process, config, ports.addresses()?, limits)?;
    config.auth.warn_if_open([Some(common.addresses.services), common.addresses.edge].into_iter().flatten());
    let calls = process.declared_calls(&common.methods)?;
    let releases = Arc::new(Releases::of(&process, common.sets.clone(), &common.methods, &calls));
    let about = common
        .mesh_contracts
        .contains(&inspect::CONTRACT)
        .then(|| About::of(&process, config, &calls, common.addresses));
    if let Some(intentions) = &config.auth.intentions {
        calls::warn_of_refused(&calls, intentions);
        common.discovery.follow_intentions(intentions);
    }
    if let Some(source) = config.transport.source.clone() {
        common.background.run(source.renew(common.metrics.tls.clone()));
    }
    let (front, answers) = Front::build(&common).await?;
    // Calls are refused with UNAVAILABLE, `STARTING`, until the services are built.
    ports.accept(limits, &common.draining, &common.foreground, answers);

    let peers = common.peers();
    let mut built = Built::build(process.services, calls, &common, &peers).await?;
    built.run_background(&common);
    built.serve_of_mesh(&common.draining).await?;
    Arc::clone(&releases).serve(&mut built.grpc);
    if let Some(about) = about {
        about.inspect(&common.metrics, &common.health).serve(&mut built.grpc);
    }
    health_service::serve(&common.health, &mut built.grpc);
    reflection::serve(&mut built.grpc, &common.forwarded, &common.sets)?;
    let others =
        common.is_gateway.then(|| mesh_edge::forward(&peers, &common.all_sets(), &common.methods)).transpose()?;
    // It is empty: the process is built once.
    let _ = front.places.set(Box::new(built.places));
    let mut checks = built.checks;
    checks.extend(process_checks(&config.transport, &config.auth, &common.health_names()).await);
    common.health.look(&checks).await;
    // Until here, a signal ends the process without a drain.
    front.starting.serve(built.grpc, others);
    peers.ready(front.stack);
    common.background.run(common.health.clone().watch(checks));
    common.background.run(common.metrics.clone().publish_build());

    let is_newer = built.stores.iter().any(Store::is_newer);
    let work = built.work.begin(common.draining.clone(), common.foreground.clone(), common.metrics.clone());
    let gate = ReleaseGate::of(&common, releases, is_newer);
    let open = gate::open(gate, work, &common).await?;
    // Last: a service that others find can be called.
    let registered = register(&common, &open);
    Ok(Running {
        address: common.addresses.services,
        admin_address: common.addresses.admin,
        edge_address: common.addresses.edge,
        edge: front.edge,
        dashboard: front.dashboard,
        methods: common.methods,
        peers,
        registered,
        health: common.health,
        stores: built.stores,
        draining: common.draining,
        drain_limit: config.drain.limit,
        foreground: common.foreground,
        background: common.background,
        _cut_on_drop: common.cut_on_drop,
    })
}

/// Takes the addresses of a process.
async fn bind(config: &Config) -> anyhow::Result<(Ports, Limits)> {
    let listeners = NonZeroU64::MIN.saturating_add(u64::from(config.edge.own_listener().is_some()));
    let limits = config.limits.within(raise_open_files(), listeners);
    let listen = Listen { services: config.listen, admin: config.admin_listen, edge: config.edge.own_listener() };
    let ports = Ports::bind(listen, &format!("--listen or {}", config.listen_variable)).await?;
    Ok((ports, limits))
}

/// Lets others find the services, once `open` is cancelled.
fn register(common: &Common<'_>, open: &CancellationToken) -> Registered {
    let Common { config, addresses, .. } = common;
    let check = config.inbound.is_mutual_at(addresses.services).then_some(addresses.admin).flatten();
    let registrants = common.services.iter().cloned().map(|(service, contracts)| {
        let health = common.health.clone();
        Registrant { service, contracts, ready: Arc::new(move || health.is_ready(service)), check }
    });
    common.discovery.register_when(open, registrants.collect(), addresses.services, config.advertise.as_ref())
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
