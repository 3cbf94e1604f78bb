//! The configuration of a process: read once, checked as a whole, then passed on as types.
//!
//! The sources are one file (`mesh.toml`), then the environment, then flags; the later source wins. Each module of mesh
//! declares its own keys, and this module composes them. See [`mesh_runtime::settings`] for the guarantees, and
//! docs/operate/configuration.md for every key.

mod flags;
mod gating;
mod services;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mesh_dashboard::Settings as Dashboard;
use mesh_edge::Settings as Edge;
use mesh_events::Keep;
use mesh_operations::Retention;
use mesh_rpc::auth;
use mesh_rpc::call::Methods;
use mesh_rpc::client::Calling;
use mesh_rpc::discovery::{Advertise, Registry, take_peers};
use mesh_rpc::identity::Transport;
use mesh_rpc::server::{Drain, Limits};
use mesh_rpc::telemetry::{KeepCalls, Log, Otlp};
use mesh_runtime::settings::{Error, Key, Listing, Settings, Source, Values, parse, variable};
use mesh_store::Database;

use crate::process::Process;
use crate::service::Service;

pub use flags::Instead;
pub(crate) use gating::{GateMode, Gating};

use flags::Flags;
use services::{Services, own_listen_key, take_listen};

/// A checked configuration (INV-4).
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this process: the service's name, or `monolith`.
    pub process: &'static str,
    /// The address for gRPC and HTTP. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// The variable that sets `listen`, for the error about a taken address.
    pub(crate) listen_variable: String,
    /// The address of `/metrics`, `/healthz` and `/readyz`, if it is not [`listen`](Self::listen).
    pub admin_listen: Option<SocketAddr>,
    /// How long a drain takes.
    pub drain: Drain,
    /// The deadline of a call to a peer if neither caller nor contract sets one. 1 ms to 1 h.
    pub call_deadline: Duration,
    /// The limits of callers.
    pub limits: Limits,
    /// The settings of the dashboard.
    pub dashboard: Dashboard,
    /// The settings of the edge: HTTP for clients without gRPC.
    pub edge: Edge,
    /// The TLS of calls to other processes.
    pub transport: Transport,
    /// The TLS of the listener of the services. A gateway has none: its clients are outside of the mesh.
    pub inbound: Transport,
    /// What callers are asked for.
    pub auth: auth::Settings,
    /// The format and the filter of log lines.
    pub log: Log,
    /// The destination of spans, if there is one.
    pub otlp: Option<Otlp>,
    /// The calls that the process keeps.
    pub keep_calls: KeepCalls,
    /// The discovery of services: how this process finds others, and is found.
    pub registry: Registry,
    /// The address that Consul gives to other processes, if it is not [`listen`](Self::listen).
    pub advertise: Option<Advertise>,
    /// Whether the process looks if its builds fit what runs.
    pub(crate) gating: Gating,
    /// The time that operations and their events are kept.
    pub retention: Retention,
    /// The time that events are kept.
    pub keep_events: Keep,
    /// The servers that events are published to, if there are any.
    #[cfg(feature = "nats")]
    pub nats: Option<mesh_carrier::Servers>,
    /// The task that replaces serving, if there is one.
    pub instead: Option<Instead>,
    databases: BTreeMap<String, Database>,
    database_limits: BTreeMap<String, mesh_store::Limits>,
    settings: BTreeMap<String, Values>,
    /// Each key in force, for `--print-config`.
    pub listing: Listing,
}

impl Config {
    /// Reads flags, environment and file for `process`.
    ///
    /// # Errors
    ///
    /// All problems at once, each with its source and the allowed values. The process exits with 2.
    pub fn load(
        process: &Process,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let flags = Flags::read(process, arguments)?;
        let mut settings = flags.config.read(environment);
        let shorthands = [
            ("--listen", own_listen_key(process), &flags.listen),
            ("--data-dir", "data_dir".to_owned(), &flags.data_dir),
        ];
        for (flag, key, value) in shorthands {
            if let Some(value) = value {
                settings.set(&key, value, Source::Flag(flag.to_owned()));
            }
        }
        flags.config.flags(&mut settings);
        Self::check(process, settings, flags.instead())
    }

    /// The service whose manifest the command line asks for, in place of all else; empty if it does not say which.
    ///
    /// # Errors
    ///
    /// The command line cannot be used.
    pub(crate) fn wanted_manifest(
        process: &Process,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Option<String>, Error> {
        Ok(Flags::read(process, arguments)?.manifest)
    }

    fn check(process: &Process, mut settings: Settings, instead: Option<Instead>) -> Result<Self, Error> {
        let admin_listen = settings.optional(&Key::new("admin.listen", parse::ADDRESS), parse::address);
        let data_dir = settings.take(&Key::new("data_dir", "a folder"), PathBuf::from("data"), parse::path);
        let drain = Drain::take(&mut settings);
        let call_deadline = Calling::take_deadline(&mut settings);
        let limits = Limits::take(&mut settings);
        let edge = Edge::take(&mut settings);
        let gating = Gating::take(&mut settings);
        let retention = Retention::take(&mut settings);
        let keep_events = Keep::take(&mut settings);
        #[cfg(feature = "nats")]
        let nats = mesh_carrier::Servers::take(&mut settings);
        #[cfg(not(feature = "nats"))]
        refuse_nats(process.services.iter().any(|service| service.published().is_some()), &mut settings);
        let log = Log::take(&mut settings);
        let otlp = Otlp::take(&mut settings);
        let keep_calls = KeepCalls::take(&mut settings);
        let mut registry = Registry::take(process.has_peers_elsewhere(), &mut settings);

        let methods = Methods::of(&process.descriptors());
        let own = process.services.iter().map(Service::name);
        let known: BTreeSet<_> = methods.services().into_iter().chain(own).chain(take_peers(&mut settings)).collect();
        let Services { listen: own_listen, databases, database_limits, own } =
            Services::take(process, &known, data_dir, &mut registry, &mut settings);
        let listen = take_listen(process, own_listen, &mut settings);
        let dashboard = Dashboard::take(admin_listen.unwrap_or(listen), &mut settings);
        let transport = take_transport(process, listen, &mut settings);
        let auth = take_auth(process, (known, methods), (listen, &registry), &edge, &transport, &mut settings);
        if process.gateway.is_none()
            && transport.is_mutual_at(listen)
            && matches!(registry, Registry::Consul(_))
            && admin_listen.is_none()
        {
            let source = settings.source("tls.mode").cloned().unwrap_or(Source::Default);
            let message =
                "is not set: Consul has no certificate, so it checks health there; 127.0.0.1:0 picks a port".to_owned();
            settings.problem("admin.listen", source, message);
        }
        let advertise = Advertise::take(&registry, listen, &mut settings);
        Database::refuse_shared(&databases, &mut settings);
        let listing = settings.finish()?;

        Ok(Self {
            process: process.name,
            listen,
            listen_variable: variable(&own_listen_key(process)),
            admin_listen,
            drain,
            call_deadline,
            limits,
            dashboard,
            edge,
            inbound: if process.gateway.is_some() { Transport::default() } else { transport.clone() },
            transport,
            auth,
            log,
            otlp,
            keep_calls,
            registry,
            advertise,
            gating,
            retention,
            keep_events,
            #[cfg(feature = "nats")]
            nats,
            instead,
            databases,
            database_limits,
            settings: own,
            listing,
        })
    }

    /// The database of `service` and the limits of its connections, if it runs in this process.
    pub(crate) fn database(&self, service: &str) -> Option<(&Database, mesh_store::Limits)> {
        Some((self.databases.get(service)?, *self.database_limits.get(service)?))
    }

    /// The values of the settings that `service` declares.
    pub(crate) fn settings(&self, service: &str) -> Values {
        self.settings.get(service).cloned().unwrap_or_default()
    }
}

/// The TLS between processes. The clients of a gateway are outside of the mesh.
fn take_transport(process: &Process, listen: SocketAddr, settings: &mut Settings) -> Transport {
    let mut names = vec![process.name];
    names.extend(process.services.iter().map(Service::name).filter(|name| *name != process.name));
    Transport::take(&names, process.gateway.is_none().then_some(listen), settings)
}

/// What callers are asked for. Passports may be signed by services and by processes of several.
fn take_auth(
    process: &Process,
    (known, methods): (BTreeSet<&'static str>, Methods),
    (listen, registry): (SocketAddr, &Registry),
    edge: &Edge,
    transport: &Transport,
    settings: &mut Settings,
) -> auth::Settings {
    let local: Vec<_> = process.services.iter().map(Service::name).collect();
    let names = known.into_iter().chain([process.name]).chain(auth::intentions::KNOWN_CALLERS).collect();
    let system = auth::intentions::System { process: process.name, names, methods, local };
    let inside = process.gateway.is_none().then_some(listen);
    let outside = edge.own_listener().unwrap_or(listen);
    let outside = edge.answers_at(outside).then_some(outside);
    let has_peers_elsewhere = process.has_peers_elsewhere() || !matches!(registry, Registry::Local);
    let around = auth::settings::Around {
        inside,
        outside: outside.as_slice(),
        system: &system,
        transport,
        has_peers_elsewhere,
        has_consul: matches!(registry, Registry::Consul(_)),
    };
    auth::Settings::take(&around, settings)
}

/// Refuses `nats.url` where a service publishes: events that an operator expects in NATS would never get there. In the
/// other processes of a file the key has no effect.
#[cfg(not(feature = "nats"))]
fn refuse_nats(publishes: bool, settings: &mut Settings) {
    let allowed = "absent, since this program has no client for NATS: build it with `--features mesh/nats`";
    let key = Key::new("nats.url", allowed).secret();
    let key = if publishes { key } else { key.elsewhere() };
    settings.optional(&key, |_| (!publishes).then_some(()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(process: impl Into<Process>, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, Error> {
        Config::load(
            &process.into(),
            ["process"].iter().chain(arguments).map(OsString::from),
            environment.iter().map(|(name, value)| (name.into(), value.into())),
        )
    }

    fn catalog() -> Service {
        const MIGRATIONS: &[mesh_store::Migration] = &[mesh_store::Migration::new(1, "titles", "SELECT 1")];
        Service::new("catalog", &[]).port(50051).owns(MIGRATIONS)
    }

    fn both() -> [Service; 2] {
        [catalog(), Service::new("other", &[])]
    }

    fn problems(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
        match load(catalog(), arguments, environment) {
            Err(Error::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
            other => panic!("expected problems, got {other:?}"),
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.toml");
        std::fs::write(&path, text).unwrap();
        let flag = format!("--config={}", path.display());
        (folder, flag)
    }

    #[test]
    fn later_sources_win() {
        let (_folder, flag) = file("listen = '127.0.0.1:1'\ndrain_limit = '1s'\ncall_deadline = '1s'");
        let environment = [("MESH__LISTEN", "127.0.0.1:2"), ("MESH__DRAIN_LIMIT", "2s")];
        let config = load(both(), &[&flag, "--listen=127.0.0.1:3"], &environment).unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.drain.limit, Duration::from_secs(2));
        assert_eq!(config.call_deadline, Duration::from_secs(1));
    }

    #[test]
    fn listen_of_a_single_service_is_its_own_key() {
        let keys = [("MESH__LISTEN", "127.0.0.1:1"), ("MESH__SERVICES__CATALOG__LISTEN", "127.0.0.1:2")];
        assert_eq!(load(catalog(), &[], &keys).unwrap().listen.port(), 2);
        assert_eq!(load(catalog(), &[], &keys[..1]).unwrap().listen.port(), 1);
        assert_eq!(load(catalog(), &[], &[]).unwrap().listen.port(), 50051);
        assert_eq!(load(catalog(), &["--listen=127.0.0.1:3"], &keys).unwrap().listen.port(), 3);
        assert_eq!(load(both(), &[], &keys).unwrap().listen.port(), 1);
        assert_eq!(load(both(), &[], &[]).unwrap().listen.port(), 8080);
    }

    #[test]
    fn drain_delay_is_within_the_drain_limit() {
        let delay = |settings: &[&str]| load(catalog(), settings, &[]).map(|config| config.drain.delay);
        let seconds = Duration::from_secs;
        assert_eq!(delay(&[]).unwrap(), seconds(3));
        assert_eq!(delay(&["--set=drain_limit=4s"]).unwrap(), seconds(2));
        assert_eq!(delay(&["--set=drain_limit=4s", "--set=drain_delay=4s"]).unwrap(), seconds(4));
        assert!(delay(&["--set=drain_limit=4s", "--set=drain_delay=5s"]).is_err());
    }

    #[test]
    fn problems_are_all_reported_with_source_and_allowed_values() {
        let (_folder, flag) = file("lisen = '127.0.0.1:1'\ndrain_limit = '1y'\n[services.catalgo]\nlisten = 'x'");
        let found = problems(&[&flag, "--set=log.format=xml"], &[("MESH__CALL_DEADLINE", "0s")]);
        assert_eq!(found.len(), 5, "{found:#?}");
        let expect = |wanted: &[&str]| {
            assert!(found.iter().any(|line| wanted.iter().all(|w| line.contains(w))), "{wanted:?} not in {found:#?}");
        };
        expect(&["mesh.toml", "`lisen`", "did you mean `listen`?"]);
        expect(&["mesh.toml", "`drain_limit`", "1y", "0s to 10min"]);
        expect(&["mesh.toml", "`services.catalgo.listen`", "did you mean `services.catalog.listen`?"]);
        expect(&["MESH__CALL_DEADLINE", "`call_deadline`", "1ms to 1h"]);
        expect(&["--set", "`log.format`", "pretty or json"]);
    }

    #[cfg(feature = "nats")]
    #[test]
    fn nats_url_is_checked_and_never_shown() {
        let config = load(catalog(), &["--set=nats.url=nats://user:hush@127.0.0.1:4222"], &[]).unwrap();
        assert!(config.nats.is_some());
        assert!(!format!("{config:?}{}", config.listing).contains("hush"));
        let found = problems(&["--set=nats.url=http://user:hush@127.0.0.1:4222"], &[]);
        assert!(found.len() == 1 && found[0].contains("nats://HOST:PORT") && !found[0].contains("hush"), "{found:?}");
    }

    #[cfg(not(feature = "nats"))]
    #[test]
    fn nats_url_is_refused_with_the_feature_that_lacks() {
        let mut settings = Settings::default();
        settings.set("nats.url", "nats://user:hush@127.0.0.1:4222", Source::Flag("--set".to_owned()));
        refuse_nats(true, &mut settings);
        let Err(Error::Invalid(problems)) = settings.finish() else { panic!("expected a problem") };
        let [problem] = &problems.iter().map(ToString::to_string).collect::<Vec<_>>()[..] else {
            panic!("one problem")
        };
        assert!(problem.contains("`--features mesh/nats`") && !problem.contains("hush"), "{problem}");
    }

    #[test]
    fn wrong_types_are_problems_and_no_defaults() {
        for text in ["listen = 8080", "listen = ['127.0.0.1:1']", "listen = true", "log = 'json'", "data_dir = ''"] {
            let (_folder, flag) = file(text);
            assert_eq!(problems(&[&flag], &[]).len(), 1, "{text}");
        }
    }

    #[test]
    fn settings_of_a_service_are_checked_only_where_it_runs() {
        static COUNT: mesh_runtime::settings::Setting<u64> = mesh_runtime::settings::Setting::number("count", 2, 1, 64);
        let counting = || catalog().setting(&COUNT);
        let variables = [("MESH__SERVICES__CATALOG__COUNT", "7")];
        let config = load(counting(), &[], &variables).unwrap();
        assert_eq!(config.settings("catalog").get(&COUNT), Some(7));
        assert!(config.listing.to_string().contains("services.catalog.count = 7"), "{}", config.listing);
        assert!(load([counting(), Service::new("other", &[])], &["--set=services.catalog.count=65"], &[]).is_err());
        assert!(load(catalog(), &[], &variables).is_err(), "catalog does not declare it");

        let elsewhere = "--set=services.catalgo.count=1";
        assert!(load(counting(), &[elsewhere], &[]).is_err(), "there is no such service");
    }

    #[test]
    fn service_without_data_has_no_keys_of_a_database() {
        let config = load(Service::new("tv", &[]), &[], &[]).unwrap();
        assert!(!config.listing.to_string().contains("services.tv.database"), "{}", config.listing);
        for key in ["database_url=sqlite://tv.db", "database.wait=1s"] {
            let flag = format!("--set=services.tv.{key}");
            assert!(load(Service::new("tv", &[]), &[&flag], &[]).is_err(), "{key} would have no effect");
        }
    }

    #[test]
    fn listing_shows_each_key_in_force_with_its_source() {
        let (_folder, flag) = file("call_deadline = '2s'\n[limits]\nstreams = 7");
        let config = load(both(), &[&flag, "--drain-limit=1s"], &[]);
        assert!(config.is_err(), "there is no such flag");
        let config = load(both(), &[&flag, "--set=drain_limit=1s"], &[("MESH__LISTEN", "127.0.0.1:2")]).unwrap();
        let listing = config.listing.to_string();
        let line =
            |start: &str| listing.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}"));
        assert!(line("call_deadline = \"2s\"").contains("mesh.toml"));
        assert!(line("limits.streams = 7").contains("mesh.toml"));
        assert!(line("drain_limit = \"1s\"").ends_with("# --set"));
        assert!(line("listen = \"127.0.0.1:2\"").ends_with("# MESH__LISTEN"));
        assert!(line("limits.in_flight = 1000").ends_with("# default"));
        assert!(line("services.catalog.database_url = \"sqlite://data/catalog.db\"").ends_with("# default"));
        let table: toml::Table = listing.parse().expect("the listing is a configuration file");
        assert!(table.contains_key("registry"));
    }
}
