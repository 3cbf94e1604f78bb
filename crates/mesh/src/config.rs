//! Configuration: everything an operator may decide, read once, checked whole, then carried as types.
//!
//! One file (`mesh.toml`), then the environment, then flags; the later wins. [`Config::load`] is the only place that
//! sees text. It asks [`settings`] for every key it knows, and whatever is left over is unknown: so there is no second
//! list of keys to forget, and a misspelt key cannot pass. Every mistake is reported, not just the first.

mod database;
mod limits;
mod log;
mod otlp;
mod registry;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

pub use database::Database;
pub use limits::Limits;
pub use log::{Log, LogFormat};
pub use otlp::Otlp;
pub use registry::{Advertise, Consul, Registry};
use settings::Settings;
pub use settings::{Error, Problem};

use crate::contract::Methods;
use crate::service::{Process, Service};

/// Kubernetes kills after 30 s, people lose patience after 10.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// What a call to a peer gets whose caller said nothing, so that no service waits for another for ever.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Long enough to come back to after a holiday.
const KEEP_OPERATIONS: Duration = Duration::from_secs(30 * 24 * 3600);
/// Long enough to repair what follows a feed.
const KEEP_EVENTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// A configuration that has been checked: nothing downstream sees raw input.
#[derive(Clone, Debug)]
pub struct Config {
    /// What this process calls itself: the service's name, or `monolith`.
    pub process: &'static str,
    /// Where gRPC and HTTP are served. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// The variable that says so, for whoever has to choose another.
    pub(crate) listen_variable: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, if not on [`listen`](Self::listen).
    pub admin_listen: Option<SocketAddr>,
    /// How long a drain may take before what is left is cut off. 0 s to 10 min.
    pub drain_limit: Duration,
    /// The deadline of a call to a peer whose caller has set none. 1 ms to 1 h.
    pub call_deadline: Duration,
    /// What callers may take of this process.
    pub limits: Limits,
    /// How logs look, and which are written.
    pub log: Log,
    /// Where spans go, if anywhere.
    pub otlp: Option<Otlp>,
    /// How the services of other processes are found, and those of this one by them.
    pub registry: Registry,
    /// What Consul is told of where this process is, if not the address it listens on.
    pub advertise: Option<Advertise>,
    /// How long operations are remembered.
    pub retention: Retention,
    /// Whether to renew the epoch of the databases, and then to end instead of serving.
    pub renew_epoch: bool,
    databases: BTreeMap<String, Database>,
}

/// How long operations are remembered. 1 min to 10 years each.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// An operation, from when it is done.
    pub operations: Duration,
    /// What a stream can be resumed with, from when it was told.
    pub events: Duration,
}

/// What the command line may say.
#[derive(Parser)]
#[command(about = "Serves gRPC. Every key of mesh.toml can be set by a flag or the environment, too.", version)]
struct Flags {
    /// The configuration file [default: mesh.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address to serve on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where embedded databases live
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Any key of mesh.toml, such as `drain_limit=5s`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// After a backup was restored: make streams that are resumed begin anew, and end (see docs/OPERATIONS.md)
    #[arg(long)]
    renew_epoch: bool,
}

impl Config {
    /// Reads flags, environment and file for `process`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with where it was said and what is allowed there.
    pub fn load(
        process: &Process,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let matches = Flags::command().name(process.name).bin_name(process.name).try_get_matches_from(arguments);
        let flags = matches.and_then(|matches| Flags::from_arg_matches(&matches)).map_err(Error::Usage)?;
        let mut settings = Settings::default();

        match &flags.config {
            Some(file) => settings.file(file),
            None if Path::new("mesh.toml").exists() => settings.file(Path::new("mesh.toml")),
            None => {}
        }
        settings.environment(environment);
        settings.flag("--listen", &own_listen_key(process), flags.listen);
        settings.flag("--data-dir", "data_dir", flags.data_dir);
        for assignment in &flags.settings {
            settings.assignment(assignment);
        }

        Ok(Self { renew_epoch: flags.renew_epoch, ..Self::check(process, settings)? })
    }

    fn check(process: &Process, mut settings: Settings) -> Result<Self, Error> {
        let listen = settings.take("listen", ADDRESS, parse_address);
        let admin_listen = settings.take("admin.listen", ADDRESS, parse_address);
        let data_dir = settings.take("data_dir", "a folder", parse_path).unwrap_or_else(|| "data".into());
        let drain_limit =
            settings.take("drain_limit", "a time from 0s to 10min, such as 8s", within(Duration::ZERO, 600));
        let call_deadline = settings.take(
            "call_deadline",
            "a time from 1ms to 1h, such as 10s",
            within(Duration::from_millis(1), 3600),
        );
        let limits = limits::take(&mut settings);
        let keep = || within(Duration::from_secs(60), 10 * YEAR);
        let retention = Retention {
            operations: settings.take("operations.keep", KEEP, keep()).unwrap_or(KEEP_OPERATIONS),
            events: settings.take("operations.keep_events", KEEP, keep()).unwrap_or(KEEP_EVENTS),
        };
        let log = log::take(&mut settings);
        let otlp = otlp::take(&mut settings);

        let mut registry = registry::take(process, &mut settings);
        let advertised = settings.origin("advertise").is_some();
        let advertise = settings.take("advertise", registry::ADVERTISE, Advertise::parse);

        // The file is shared by every process of a system, so it may speak of services that are not in this one.
        let running: BTreeSet<&str> = process.services.iter().map(Service::name).collect();
        let mut databases = BTreeMap::new();
        let mut own_listen = None;
        let sets: Vec<_> = process.services.iter().map(Service::descriptors).collect();
        for name in Methods::of(&sets).services().union(&running) {
            let address = settings.take(&listen_key(name), ADDRESS, parse_address);
            let database = database::take(name, &mut settings);
            let addresses = settings.take(&format!("static.{name}"), registry::ADDRESSES, registry::parse_addresses);
            if let (Registry::Static(peers), Some(addresses)) = (&mut registry, addresses) {
                peers.insert((*name).to_owned(), addresses);
            }
            if running.contains(name) {
                own_listen = address;
                let default = || Database::Sqlite(data_dir.join(format!("{name}.db")));
                databases.insert((*name).to_owned(), database.unwrap_or_else(default));
            }
        }
        // `services.X.listen` is for X in a process of its own, and wins there.
        let listen = own_listen.filter(|_| process.alone).or(listen);
        let listen = listen.unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), process.port));

        database::refuse_shared(&databases, &mut settings);
        registry::refuse_nowhere(&registry, advertised, listen, &mut settings);
        settings.finish()?;

        Ok(Self {
            process: process.name,
            listen,
            listen_variable: settings::variable(&own_listen_key(process)),
            admin_listen,
            drain_limit: drain_limit.unwrap_or(DRAIN_LIMIT),
            call_deadline: call_deadline.unwrap_or(CALL_DEADLINE),
            limits,
            log,
            otlp,
            registry,
            advertise,
            retention,
            renew_epoch: false,
            databases,
        })
    }

    /// Where `service` keeps what it owns, if it runs in this process.
    pub(crate) fn database(&self, service: &str) -> Option<&Database> {
        self.databases.get(service)
    }
}

/// The key that wins where a process listens.
fn own_listen_key(process: &Process) -> String {
    if process.alone { listen_key(process.name) } else { "listen".to_owned() }
}

fn listen_key(service: &str) -> String {
    format!("services.{service}.listen")
}

const ADDRESS: &str = "an address such as 127.0.0.1:8080 (port 0 picks a free one)";

const KEEP: &str = "a time from 1m to 10years, such as 30d";

/// In seconds, as humantime has it.
const YEAR: u64 = 31_557_600;

fn parse_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

fn parse_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}

fn within(least: Duration, most_seconds: u64) -> impl Fn(&str) -> Option<Duration> {
    move |text| {
        let duration = humantime::parse_duration(text).ok()?;
        (least..=Duration::from_secs(most_seconds)).contains(&duration).then_some(duration)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::config) fn load(
        process: impl Into<Process>,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Config, Error> {
        Config::load(
            &process.into(),
            ["process"].iter().chain(arguments).map(OsString::from),
            environment.iter().map(|(name, value)| (name.into(), value.into())),
        )
    }

    pub(in crate::config) fn catalog() -> Service {
        Service::new("catalog", &[]).port(50051)
    }

    pub(in crate::config) fn both() -> [Service; 2] {
        [catalog(), Service::new("other", &[])]
    }

    pub(in crate::config) fn problems(arguments: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
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
    fn the_later_wins() {
        let (_folder, flag) = file("listen = '127.0.0.1:1'\ndrain_limit = '1s'\ncall_deadline = '1s'");
        let environment = [("MESH__LISTEN", "127.0.0.1:2"), ("MESH__DRAIN_LIMIT", "2s")];
        let config = load(both(), &[&flag, "--listen=127.0.0.1:3"], &environment).unwrap();
        assert_eq!(config.listen.port(), 3);
        assert_eq!(config.drain_limit, Duration::from_secs(2));
        assert_eq!(config.call_deadline, Duration::from_secs(1));
    }

    #[test]
    fn a_service_alone_listens_where_its_own_key_says() {
        let keys = [("MESH__LISTEN", "127.0.0.1:1"), ("MESH__SERVICES__CATALOG__LISTEN", "127.0.0.1:2")];
        assert_eq!(load(catalog(), &[], &keys).unwrap().listen.port(), 2);
        assert_eq!(load(catalog(), &[], &keys[..1]).unwrap().listen.port(), 1);
        assert_eq!(load(catalog(), &[], &[]).unwrap().listen.port(), 50051);
        assert_eq!(load(catalog(), &["--listen=127.0.0.1:3"], &keys).unwrap().listen.port(), 3);
        assert_eq!(load(both(), &[], &keys).unwrap().listen.port(), 1);
        assert_eq!(load(both(), &[], &[]).unwrap().listen.port(), 8080);
    }

    #[test]
    fn every_mistake_is_reported_with_its_place_and_what_is_allowed() {
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

    #[test]
    fn the_wrong_type_is_a_mistake_not_a_default() {
        for text in ["listen = 8080", "listen = ['127.0.0.1:1']", "listen = true", "log = 'json'", "data_dir = ''"] {
            let (_folder, flag) = file(text);
            assert_eq!(problems(&[&flag], &[]).len(), 1, "{text}");
        }
    }
}
