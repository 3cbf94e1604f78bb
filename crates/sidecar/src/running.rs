//! The life of a sidecar: outbound first, then the app, then inbound and the registration; and the other way round.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use mesh_rpc::auth::{Gate, Mode, Passports};
use mesh_rpc::call::GrpcServices;
use mesh_rpc::client::{Calling, Direct, Peers};
use mesh_rpc::discovery::{Discovery, Registered, Registrant};
use mesh_rpc::server::layers::stack;
use mesh_rpc::server::{
    Admin, Answers, Check, Health, KnownPlaces, Listen, Loopback, Ports, Readiness, Starting, health_service,
    reflection,
};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::signals::{Signal, Stop};
use mesh_runtime::{Tasks, raise_open_files};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::child::{self, Child};
use crate::config::Config;
use crate::health::Asks;
use crate::inbound;
use crate::outbound::Outbound;
use crate::settings::{Protocol, loopback};

/// The pause between two questions to an app that starts, and the limit for an answer.
const POLL: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(1);
/// The time after which the log says why the app is not ready, again and again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves until a signal, or until the app has ended. Returns the exit code.
pub(crate) async fn serve(config: Config) -> anyhow::Result<u8> {
    let mut stop = Stop::listen().context("cannot listen for signals")?;
    let mut running = Running::open(config).await?;
    let ready = tokio::select! {
        ready = running.app_is_ready() => ready,
        signal = stop.signal() => {
            tracing::info!(signal = signal.name(), "stopped before the app was ready");
            return Ok(running.drain(Duration::ZERO).await);
        }
    };
    if let Err(why) = ready {
        tracing::error!("{why}");
        running.drain(Duration::ZERO).await;
        return Ok(1);
    }
    running.enter()?;
    let (delay, limit) = (running.config.drain_delay, running.config.drain_limit);
    tokio::select! {
        signal = stop.signal() => {
            // A person waits for Ctrl-C, and no balancer sends calls.
            let delay = if signal == Signal::Interrupt { Duration::ZERO } else { delay };
            tracing::info!(signal = signal.name(), ?delay, ?limit, "draining");
            tokio::select! {
                code = running.drain(delay) => Ok(code),
                signal = stop.signal() => {
                    tracing::warn!(signal = signal.name(), "second signal: the drain ends now");
                    Ok(1)
                }
            }
        }
        ended = running.app_has_ended() => {
            tracing::error!("the app has ended, {ended}: the sidecar ends, too");
            running.drain(Duration::ZERO).await;
            Ok(1)
        }
    }
}

/// A sidecar whose listeners answer.
struct Running {
    config: Config,
    /// The address of the services, and of the admin pages.
    addresses: Listen,
    app: Asks,
    child: Option<Child>,
    health: Health,
    metrics: Metrics,
    discovery: Discovery,
    registered: Option<Registered>,
    /// What inbound answers once the app is ready.
    starting: Option<(Starting, GrpcServices, App)>,
    draining: CancellationToken,
    /// Cancelled once the app has ended.
    outbound_draining: CancellationToken,
    foreground: Tasks,
    outbound: Tasks,
    background: Tasks,
}

impl Running {
    /// Opens the listeners, and starts the app.
    async fn open(config: Config) -> anyhow::Result<Self> {
        let limits = config.limits.within(raise_open_files(), NonZeroU64::MIN.saturating_add(1));
        let listen = Listen { services: config.listen, admin: Some(config.admin_listen), edge: None };
        let ports = Ports::bind(listen, "--listen or MESH__LISTEN").await?;
        let addresses = ports.addresses()?;
        let local = Loopback::bind(config.sidecar.outbound, "sidecar.outbound or MESH__SIDECAR__OUTBOUND").await?;
        let outbound_address = local.address()?;
        let app_address = if config.sidecar.app.port() == 0 { free_port().await? } else { config.sidecar.app };
        let (foreground, outbound, background) = (Tasks::default(), Tasks::default(), Tasks::default());
        let (draining, outbound_draining) = (CancellationToken::new(), CancellationToken::new());
        let metrics = Metrics::new();
        let service = config.sidecar.service;

        let passports = passports(&config)?;
        warn_if_open(&config, addresses.services);
        let gate = Gate::new(&config.auth, passports.clone(), metrics.clone());
        if let Some(intentions) = gate.intentions() {
            background.run(intentions.renew());
        }
        if let Some(tokens) = gate.tokens() {
            background.run(tokens.keep_fresh());
        }
        if let Some(source) = config.transport.source.clone() {
            background.run(source.renew(metrics.tls.clone()));
        }

        let own = [health_service::NAME].into_iter().chain(reflection::NAMES);
        let health = Health::starting([(service, config.methods.contracts_of(service))], own);
        let (innermost, starting) = Starting::new(&health);
        let layers = stack(innermost, limits, metrics.clone(), draining.clone(), KnownPlaces::default(), gate);
        let edge = (config.sidecar.protocol == Protocol::Http1).then(|| inbound::http(service, layers.clone()));
        let admin = Admin { health: health.clone(), metrics: metrics.clone() };
        let transport = config.transport.clone();
        let answers = Answers { layers, methods: config.methods.clone(), admin, edge, transport };
        ports.accept(limits, &draining, &foreground, answers);

        let discovery = Discovery::new(&config.registry, &background)?;
        let calling = Calling {
            deadline: config.call_deadline,
            transport: config.transport.clone(),
            passports: passports.clone(),
            metrics: metrics.clone(),
        };
        let discover = Arc::new(discovery.clone());
        let peers = Peers::new(service, [].into(), discover, config.methods.clone(), calling);
        let names = config.methods.services().into_iter().chain(config.sidecar.peers.clone()).chain([service]);
        let out = Outbound::new(peers, config.methods.clone(), names, passports.clone());
        local.accept(limits, &outbound_draining, &outbound, out.front());
        announce(service, "outbound listening", outbound_address);

        let direct = Arc::new(Direct::to(app_address));
        let app = App::new(service, config.sidecar.protocol, app_address, Arc::clone(&direct), passports);
        let mut grpc = GrpcServices::new();
        health_service::serve(&health, &mut grpc);
        let contracts = config.methods.contracts_of(service).into_iter().collect();
        reflection::serve(&mut grpc, &contracts, &config.descriptors)?;
        let child = Child::start(&command(&config), app_address, outbound_address)?;
        let asks = Asks::new(config.health(), app_address, direct);
        Ok(Self {
            config,
            addresses,
            app: asks,
            child,
            health,
            metrics,
            discovery,
            registered: None,
            starting: Some((starting, grpc, app)),
            draining,
            outbound_draining,
            foreground,
            outbound,
            background,
        })
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
                if logged.elapsed() >= PATIENCE {
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

    /// Waits until the app has ended, and says how. An app that somebody else has started never ends here.
    async fn app_has_ended(&mut self) -> String {
        match &mut self.child {
            Some(child) => child.ended().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
            None => std::future::pending().await,
        }
    }

    /// Lets the calls of others reach the app, and registers the service.
    fn enter(&mut self) -> anyhow::Result<()> {
        let service = self.config.sidecar.service;
        let Some((starting, grpc, app)) = self.starting.take() else { return Ok(()) };
        starting.serve(grpc, Some(app.answers()));
        let mut checks: Vec<(&'static str, Check)> = vec![(service, self.app.clone().check())];
        if let Some(source) = self.config.transport.certificates().cloned() {
            let check = move |_| {
                let found = source.ended(service).map_or(Readiness::Ready, Readiness::NotReady);
                Box::pin(std::future::ready(found)) as _
            };
            checks.push((service, Box::new(check)));
        }
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
        Ok(())
    }

    /// Drains: deregisters and finishes the calls of others, ends the app, and last its calls of others. Returns the exit
    /// code.
    async fn drain(&mut self, delay: Duration) -> u8 {
        let start = Instant::now();
        let until = start + self.config.drain_limit;
        self.health.drain();
        if let Some(registered) = self.registered.take() {
            let _ = tokio::join!(timeout_at(until, registered.deregister()), sleep_until(until.min(start + delay)));
        }
        self.draining.cancel();
        if timeout_at(until, self.foreground.finish()).await.is_err() {
            tracing::warn!(limit = ?self.config.drain_limit, "drain limit reached; calls still in flight are cut off");
        }
        self.foreground.cut();
        let code = self.end_app(until).await;
        self.outbound_draining.cancel();
        // Without a child, somebody else's app may still call.
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
                child::code(status)
            }
            Ok(Err(_)) => 1,
            Err(_) => {
                tracing::warn!(limit = ?self.config.drain_limit, "drain limit reached; the app is killed");
                child.kill();
                let _ = child.ended().await;
                1
            }
        }
    }
}

/// The command of the app: that behind `--`, or else `sidecar.command`.
fn command(config: &Config) -> Vec<OsString> {
    if config.command.is_empty() {
        config.sidecar.command.iter().map(OsString::from).collect()
    } else {
        config.command.clone()
    }
}

fn passports(config: &Config) -> anyhow::Result<Option<Passports>> {
    let source = config.transport.source.clone().filter(|_| config.auth.mode == Mode::Required);
    let passports = |source| Passports::new(source, config.sidecar.service, config.auth.vouchers.clone());
    let passports = source.map(passports).transpose();
    passports.map_err(|why| anyhow::anyhow!("this process cannot vouch for users: {why}; replace identity.certificate"))
}

fn warn_if_open(config: &Config, address: SocketAddr) {
    if config.auth.mode == Mode::Off && !address.ip().is_loopback() {
        tracing::warn!(%address, "auth.mode is off: whoever reaches this address may call everything there");
    }
}

/// A port that nobody has now, for an app that is told it.
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
