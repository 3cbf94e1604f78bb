//! The life of a sidecar: outbound first, then the app, then inbound and the registration; and the other way round.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mesh_proto::mesh::inspect::v1::{GetProcessResponse, Listener, Service};
use mesh_rpc::auth::{Gate, Passports};
use mesh_rpc::call::{GrpcServices, HttpMethods};
use mesh_rpc::client::{Calling, Peers};
use mesh_rpc::discovery::{Discovery, Registered, Registrant};
use mesh_rpc::inspect::{self, CONTRACT, Inspect};
use mesh_rpc::server::layers::stack;
use mesh_rpc::server::{
    Admin, Answers, Check, Health, KnownPlaces, Limits, Listen, Loopback, Ports, Readiness, Starting, health_service,
    process_checks, reflection,
};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::signals::{Signal, Stop};
use mesh_runtime::supervisor::{State, notify};
use mesh_runtime::{Tasks, raise_open_files};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::child::{self, Child};
use crate::config::Config;
use crate::health::Asks;
use crate::inbound;
use crate::outbound::Outbound;
use crate::settings::{Protocol, Sidecar, loopback};

/// The pause between two questions to an app that starts, and the limit for an answer.
const POLL: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(1);
/// The time between two log lines about an app that is not ready.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Serves until a signal, or until the app has ended. Returns the exit code.
pub(crate) async fn serve(config: Config) -> anyhow::Result<u8> {
    let mut stop = Stop::listen().context("cannot listen for signals")?;
    let (mut running, ready) = Running::open(config).await?;
    if running.child.is_none() {
        // The supervisor starts the app then, which needs outbound alone.
        notify(State::Ready);
    }
    let began = tokio::select! {
        began = running.can_serve() => began.map_err(End::App),
        signal = stop.signal() => {
            tracing::info!(signal = signal.name(), "stopped before the app was ready");
            Err(End::Signal(Duration::ZERO))
        }
    };
    let end = match began {
        Err(end) => end,
        Ok(checks) => {
            running.enter(ready, checks);
            notify(State::Ready);
            tokio::select! {
                signal = stop.signal() => {
                    // A person waits for Ctrl-C, and no balancer sends calls.
                    let delay = if signal == Signal::Interrupt { Duration::ZERO } else { running.config.drain.delay };
                    tracing::info!(signal = signal.name(), ?delay, limit = ?running.config.drain.limit, "draining");
                    End::Signal(delay)
                }
                ended = running.app_has_ended() => End::App(format!("the app has ended, {ended}: the sidecar ends, too")),
            }
        }
    };
    notify(State::Stopping);
    let delay = match &end {
        End::Signal(delay) => *delay,
        End::App(why) => {
            tracing::error!("{why}");
            Duration::ZERO
        }
    };
    tokio::select! {
        code = running.drain(delay) => Ok(if matches!(end, End::Signal(_)) { code } else { 1 }),
        signal = stop.signal() => {
            tracing::warn!(signal = signal.name(), "second signal: the drain ends now");
            Ok(1)
        }
    }
}

/// The checks of readiness, each of a service.
type Checks = Vec<(&'static str, Check)>;

/// Why a sidecar ends.
enum End {
    /// A signal, with the time in which health reports NOT_SERVING and calls are still served.
    Signal(Duration),
    /// The app has ended, with the words for the log.
    App(String),
}

/// A sidecar whose listeners answer.
struct Running {
    config: Config,
    /// The address of the services, and of the admin pages.
    addresses: Listen,
    outbound_address: SocketAddr,
    app: Asks,
    child: Option<Child>,
    health: Health,
    metrics: Metrics,
    discovery: Discovery,
    registered: Option<Registered>,
    draining: CancellationToken,
    /// Cancelled once the app has ended.
    outbound_draining: CancellationToken,
    foreground: Tasks,
    outbound: Tasks,
    background: Tasks,
}

/// What inbound answers with once the app is healthy.
struct Ready {
    starting: Starting,
    grpc: GrpcServices,
    app: App,
}

impl Running {
    /// Opens the listeners, and starts the app.
    async fn open(config: Config) -> anyhow::Result<(Self, Ready)> {
        let limits = config.limits.within(raise_open_files(), NonZeroU64::MIN.saturating_add(1));
        let listen = Listen { services: config.listen, admin: Some(config.admin_listen), edge: None };
        let ports = Ports::bind(listen, "--listen or MESH__LISTEN").await?;
        let addresses = ports.addresses()?;
        let local = Loopback::bind(config.sidecar.outbound, "sidecar.outbound or MESH__SIDECAR__OUTBOUND").await?;
        let outbound_address = local.address()?;
        let app_address = if config.sidecar.app.port() == 0 { free_port().await? } else { config.sidecar.app };
        let service = config.sidecar.service;
        let passports = Passports::of_process(&config.auth, &config.transport, service).map_err(anyhow::Error::msg)?;
        config.auth.warn_if_open([addresses.services]);

        let (own, background) =
            ([CONTRACT, health_service::NAME].into_iter().chain(reflection::NAMES), Tasks::default());
        let mut running = Self {
            addresses,
            outbound_address,
            app: Asks::new(config.sidecar.health.clone(), app_address),
            child: None,
            health: Health::starting([(service, config.methods.contracts_of(service))], own),
            metrics: Metrics::keeping(config.keep_calls),
            discovery: Discovery::new(&config.registry, &background)?,
            registered: None,
            draining: CancellationToken::new(),
            outbound_draining: CancellationToken::new(),
            foreground: Tasks::default(),
            outbound: Tasks::default(),
            background,
            config,
        };
        let ready = running.accept_inbound(ports, limits, passports.clone())?;
        running.accept_outbound(local, limits, passports);
        announce(service, "outbound listening", outbound_address);
        if !running.config.sidecar.command.is_empty() {
            is_free(app_address).await?;
        }
        running.child = Child::start(&running.config.sidecar.command, app_address, outbound_address)?;
        Ok((running, ready))
    }

    /// Answers other processes: with `STARTING`, until the app is healthy.
    fn accept_inbound(&self, ports: Ports, limits: Limits, passports: Option<Passports>) -> anyhow::Result<Ready> {
        let (config, metrics) = (&self.config, &self.metrics);
        metrics.edges.runs(config.sidecar.service, [config.sidecar.service]);
        let Sidecar { service, protocol, .. } = config.sidecar;
        let gate = Gate::new(&config.auth, passports.clone(), metrics.clone());
        gate.keep_fresh(&self.background);
        if let Some(intentions) = &config.auth.intentions {
            self.discovery.follow_intentions(intentions);
        }
        if let Some(source) = config.transport.source.clone() {
            self.background.run(source.renew(metrics.tls.clone()));
        }
        let contracts: BTreeSet<_> = config.methods.contracts_of(service).into_iter().collect();
        let http = (protocol == Protocol::Http1).then(|| HttpMethods::of(service));
        metrics.serves(config.methods.of_contracts(&contracts));
        metrics.serves(http.map(HttpMethods::all).into_iter().flatten());

        let (innermost, starting) = Starting::new(&self.health);
        let layers = stack(innermost, limits, metrics.clone(), self.draining.clone(), KnownPlaces::default(), gate);
        let edge = http.map(|methods| inbound::http(methods, layers.clone()));
        let admin = Admin { health: self.health.clone(), metrics: metrics.clone() };
        let (methods, transport) = (config.methods.clone(), config.transport.clone());
        let answers = Answers { layers, methods, admin, page: None, edge, transport };
        ports.accept(limits, &self.draining, &self.foreground, answers);

        let mut grpc = GrpcServices::new();
        health_service::serve(&self.health, &mut grpc);
        Inspect::new(self.about(), metrics.clone(), self.health.clone()).serve(&mut grpc);
        reflection::serve(&mut grpc, &contracts, &[config.descriptors])?;
        Ok(Ready { starting, grpc, app: App::new(service, protocol, self.app.address(), passports) })
    }

    /// What it says of itself to a dashboard.
    fn about(&self) -> GetProcessResponse {
        let (config, service) = (&self.config, self.config.sidecar.service);
        let listeners = [
            ("services", Some(self.addresses.services)),
            ("admin", self.addresses.admin),
            ("outbound", Some(self.outbound_address)),
        ];
        let listeners = listeners.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at?.to_string())));
        let contracts = config.methods.contracts_of(service).into_iter().map(str::to_owned).collect();
        GetProcessResponse {
            process: service.to_owned(),
            listeners: listeners.map(|(name, address)| Listener { name, address }).collect(),
            services: vec![Service { name: service.to_owned(), contracts, ..Service::default() }],
            configuration: inspect::settings(&config.listing),
            ..GetProcessResponse::default()
        }
    }

    /// Lets the app call others.
    fn accept_outbound(&self, local: Loopback, limits: Limits, passports: Option<Passports>) {
        let (config, methods) = (&self.config, self.config.methods.clone());
        let calling = Calling {
            deadline: config.call_deadline,
            transport: config.transport.clone(),
            passports: passports.as_ref().map(Passports::as_they_are),
            metrics: self.metrics.clone(),
        };
        let discover = Arc::new(self.discovery.clone());
        let peers = Peers::new(config.sidecar.service, [].into(), discover, methods.clone(), calling);
        let outbound = Outbound::new(peers, methods, config.names.iter().copied(), passports);
        local.accept(limits, &self.outbound_draining, &self.outbound, outbound.front());
    }

    /// Waits until the app is healthy.
    ///
    /// # Errors
    ///
    /// The app has ended.
    async fn app_is_ready(&mut self) -> Result<(), String> {
        let app = self.app.clone();
        let service = self.config.sidecar.service;
        let healthy = async {
            let mut logged = Instant::now();
            while let Readiness::NotReady(why) = app.ask(ANSWER).await {
                if logged.elapsed() >= LOG_EVERY {
                    tracing::warn!(service, why, "still waiting for the app");
                    logged = Instant::now();
                }
                sleep(POLL).await;
            }
        };
        tokio::select! {
            () = healthy => Ok(()),
            ended = self.app_has_ended() => Err(format!("the app has ended before it was ready, {ended}")),
        }
    }

    /// Waits until the app has ended, and says how. One that a supervisor has started never ends here.
    async fn app_has_ended(&mut self) -> String {
        match &mut self.child {
            Some(child) => child.ended().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
            None => std::future::pending().await,
        }
    }

    /// Waits until the app is ready, and for the first checks. Fails if the app has ended before.
    async fn can_serve(&mut self) -> Result<Checks, String> {
        self.app_is_ready().await?;
        let service = self.config.sidecar.service;
        let mut checks: Checks = vec![(service, self.app.clone().check())];
        let Config { transport, auth, .. } = &self.config;
        checks.extend(process_checks(transport, auth, &[service]).await);
        self.health.look(&checks).await;
        Ok(checks)
    }

    /// Lets the calls of others reach the app, and registers the service.
    fn enter(&mut self, ready: Ready, checks: Checks) {
        let service = self.config.sidecar.service;
        ready.starting.serve(ready.grpc, Some(ready.app.answers()));
        self.background.run(self.health.clone().watch(checks));
        self.background.run(self.metrics.clone().publish_build());
        self.health.started();
        // Last: a service that others find can be called. The health check of an agent has no certificate, and that of
        // an app without gRPC is the sidecar's, too.
        let health = self.health.clone();
        let registrant = Registrant {
            service,
            contracts: self.config.methods.contracts_of(service),
            ready: Arc::new(move || health.is_ready(service)),
            check: self.addresses.admin,
        };
        let advertise = self.config.advertise.as_ref();
        self.registered = Some(self.discovery.register(vec![registrant], self.addresses.services, advertise));
        announce(service, "listening", self.addresses.services);
        if let Some(admin) = self.addresses.admin {
            announce(service, "admin listening", admin);
        }
    }

    /// Drains: deregisters and finishes the calls of others, ends the app, and last its calls of others. Returns the
    /// exit code.
    async fn drain(&mut self, delay: Duration) -> u8 {
        let start = Instant::now();
        let until = start + self.config.drain.limit;
        self.health.drain();
        if let Some(registered) = self.registered.take() {
            let _ = tokio::join!(timeout_at(until, registered.deregister()), sleep_until(until.min(start + delay)));
        }
        self.draining.cancel();
        // The app has a quarter of the time to end in order, whatever its callers do.
        let calls_until = until - self.config.drain.limit / 4;
        if timeout_at(calls_until, self.foreground.finish()).await.is_err() {
            tracing::warn!(limit = ?self.config.drain.limit, "three quarters of the drain limit are over; calls still in flight are cut off");
        }
        self.foreground.cut();
        let code = self.end_app(until).await;
        self.outbound_draining.cancel();
        // An app that a supervisor has started may still call.
        let _ = timeout_at(until, self.outbound.finish()).await;
        self.outbound.cut();
        self.background.cut();
        tracing::info!("drained");
        code
    }

    async fn end_app(&mut self, until: Instant) -> u8 {
        let Some(child) = &mut self.child else { return 0 };
        child.terminate().await;
        match timeout_at(until, child.ended()).await {
            Ok(Ok(status)) => {
                tracing::info!("the app has ended, {status}");
                child.kill().await;
                child::code(status)
            }
            Ok(Err(_)) => 1,
            Err(_) => {
                tracing::warn!(limit = ?self.config.drain.limit, "drain limit reached; the app is killed");
                child.kill().await;
                let _ = child.ended().await;
                1
            }
        }
    }
}

/// Refuses an address that another program has: it would be taken for the app.
async fn is_free(app: SocketAddr) -> anyhow::Result<()> {
    match TcpStream::connect(app).await {
        Ok(_) => anyhow::bail!(
            "cannot start the app: another program listens at {app}; end it, or choose another address with sidecar.app"
        ),
        Err(_) => Ok(()),
    }
}

/// A port that is free now.
async fn free_port() -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(loopback(0)).await.context("no port of loopback is free")?;
    listener.local_addr().context("no port of loopback is free")
}

fn announce(service: &str, what: &str, address: SocketAddr) {
    let mut out = std::io::stdout().lock();
    // A closed standard output does not stop the process.
    let _ = writeln!(out, "{service} {what} on {address}");
    let _ = out.flush();
}
