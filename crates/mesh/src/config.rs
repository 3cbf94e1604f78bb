//! The configuration of a process: read once, checked whole, then carried as types.
//!
//! One file (`mesh.toml`), then the environment, then flags; the later wins. Each module of mesh declares its own keys;
//! here they are put together. See [`mesh_runtime::settings`] for what is guaranteed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use mesh_operations::Retention;
use mesh_rpc::call::Methods;
use mesh_rpc::discovery::{Advertise, Registry};
use mesh_rpc::server::Limits;
use mesh_rpc::telemetry::{Log, Otlp};
use mesh_runtime::command_line::ConfigFlags;
use mesh_runtime::settings::{Error, Key, Listing, Settings, Source, Values, parse, variable};
use mesh_store::Database;

use crate::process::Process;
use crate::service::Service;

/// Kubernetes kills after 30 s; an operator waits for less than 10.
const DRAIN_LIMIT: Duration = Duration::from_secs(8);
/// For a call to a peer whose caller and contract set none, so that no service waits for another for ever.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// A configuration that has been checked: nothing downstream sees raw input.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name of this process: the service's name, or `monolith`.
    pub process: &'static str,
    /// Where gRPC and HTTP are served. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// The variable that sets `listen`, for an operator who has to choose another address.
    pub(crate) listen_variable: String,
    /// Where `/metrics`, `/healthz` and `/readyz` are served, if not on [`listen`](Self::listen).
    pub admin_listen: Option<SocketAddr>,
    /// How long a drain may take before what is left is cut off. 0 s to 10 min.
    pub drain_limit: Duration,
    /// The deadline of a call to a peer whose caller has set none. 1 ms to 1 h.
    pub call_deadline: Duration,
    /// What callers may take of this process.
    pub limits: Limits,
    /// The format of log lines, and which are written.
    pub log: Log,
    /// Where spans go, if anywhere.
    pub otlp: Option<Otlp>,
    /// How the services of other processes are found, and those of this one by them.
    pub registry: Registry,
    /// The address that Consul gives to other processes, if not the one that this process listens on.
    pub advertise: Option<Advertise>,
    /// How long operations are kept.
    pub retention: Retention,
    /// What to do instead of serving, if anything.
    pub instead: Option<Instead>,
    databases: BTreeMap<String, Database>,
    settings: BTreeMap<String, Values>,
    /// Each key in force, for `--print-config`.
    pub listing: Listing,
}

/// What a process is asked for instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Give the databases a new epoch, after a backup was restored.
    RenewEpoch,
    /// Print the configuration in force.
    PrintConfig,
    /// Nothing: the configuration is valid.
    CheckConfig,
}

/// The command line.
#[derive(Parser)]
#[command(about = "Serves gRPC. Every key of mesh.toml can be set by a flag or the environment, too.", version)]
struct Flags {
    #[command(flatten)]
    config: ConfigFlags,
    /// The address to serve on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where embedded databases live
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// After a backup was restored: make clients that resume a stream begin anew, and exit (docs/operate/backup.md)
    #[arg(long)]
    renew_epoch: bool,
}

impl Flags {
    fn instead(&self) -> Option<Instead> {
        let asked = [
            (self.config.print_config, Instead::PrintConfig),
            (self.config.check_config, Instead::CheckConfig),
            (self.renew_epoch, Instead::RenewEpoch),
        ];
        asked.into_iter().find_map(|(asked, instead)| asked.then_some(instead))
    }
}

impl Config {
    /// Reads flags, environment and file for `process`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, each with where it was set and what is allowed there.
    pub fn load(
        process: &Process,
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let matches = Flags::command().name(process.name).bin_name(process.name).try_get_matches_from(arguments);
        let flags = matches.and_then(|matches| Flags::from_arg_matches(&matches)).map_err(Error::Usage)?;
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

    fn check(process: &Process, mut settings: Settings, instead: Option<Instead>) -> Result<Self, Error> {
        let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
        let admin_listen = settings.optional(&Key::new("admin.listen", parse::ADDRESS), parse::address);
        let data_dir = settings.take(&Key::new("data_dir", "a folder"), PathBuf::from("data"), parse::path);
        let drain_limit = Key::new("drain_limit", "a time from 0s to 10min, such as 8s");
        let drain_limit = settings.take(&drain_limit, DRAIN_LIMIT, parse::time(zero, 600 * second));
        let call_deadline = Key::new("call_deadline", "a time from 1ms to 1h, such as 10s");
        let call_deadline = settings.take(&call_deadline, CALL_DEADLINE, parse::time(second / 1000, 3600 * second));
        let limits = Limits::take(&mut settings);
        let retention = Retention::take(&mut settings);
        let log = Log::take(&mut settings);
        let otlp = Otlp::take(&mut settings);
        let mut registry = Registry::take(process.alone, &mut settings);

        let Services { listen: own_listen, databases, own } =
            Services::take(process, &data_dir, &mut registry, &mut settings);
        let listen = take_listen(process, own_listen, &mut settings);
        let advertise = Advertise::take(&registry, listen, &mut settings);
        Database::refuse_shared(&databases, &mut settings);
        let listing = settings.finish()?;

        Ok(Self {
            process: process.name,
            listen,
            listen_variable: variable(&own_listen_key(process)),
            admin_listen,
            drain_limit,
            call_deadline,
            limits,
            log,
            otlp,
            registry,
            advertise,
            retention,
            instead,
            databases,
            settings: own,
            listing,
        })
    }

    /// Where `service` keeps its data, if it runs in this process.
    pub(crate) fn database(&self, service: &str) -> Option<&Database> {
        self.databases.get(service)
    }

    /// The values of the settings of `service`'s own.
    pub(crate) fn settings(&self, service: &str) -> Values {
        self.settings.get(service).cloned().unwrap_or_default()
    }
}

/// What is configured for each service.
struct Services {
    /// Where the service of this process listens, if it is alone.
    listen: Option<SocketAddr>,
    databases: BTreeMap<String, Database>,
    own: BTreeMap<String, Values>,
}

impl Services {
    /// Reads the keys under `services` and `static`. All processes of a system share a file, so it may name services that
    /// are not in this process: what mesh knows of them is checked, and the settings of their own are theirs to check.
    fn take(process: &Process, data_dir: &std::path::Path, registry: &mut Registry, settings: &mut Settings) -> Self {
        let running: BTreeMap<&str, &Service> =
            process.services.iter().map(|service| (service.name(), service)).collect();
        let sets: Vec<_> = process.services.iter().map(Service::descriptors).collect();
        let known: BTreeSet<&str> = Methods::of(&sets).services().into_iter().chain(running.keys().copied()).collect();
        let mut services = Self { listen: None, databases: BTreeMap::new(), own: BTreeMap::new() };
        for name in known {
            let service = running.get(name);
            registry.take_addresses(name, settings);
            let key = Key::new(listen_key(name), parse::ADDRESS);
            // In a process of several services it says nothing of this one.
            let here = service.is_some() && process.alone;
            let listen = settings.optional(&if here { key } else { key.elsewhere() }, parse::address);
            let database = Database::take(name, data_dir, service.is_some(), settings);
            if let Some(service) = service {
                services.listen = listen;
                services.databases.insert(name.to_owned(), database);
                services.own.insert(name.to_owned(), Values::take(name, service.settings(), settings));
            } else {
                settings.shared(&format!("services.{name}"));
            }
        }
        services
    }
}

/// Where the process listens: `services.NAME.listen` wins for a service in a process of its own.
fn take_listen(process: &Process, own: Option<SocketAddr>, settings: &mut Settings) -> SocketAddr {
    let key = Key::new("listen", parse::ADDRESS);
    let own = own.filter(|_| process.alone);
    if let Some(own) = own {
        settings.optional(&key.elsewhere(), parse::address);
        return own;
    }
    let default = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), process.port);
    settings.take(&key, default, parse::address)
}

/// The key that wins where a process listens.
fn own_listen_key(process: &Process) -> String {
    if process.alone { listen_key(process.name) } else { "listen".to_owned() }
}

fn listen_key(service: &str) -> String {
    format!("services.{service}.listen")
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
        Service::new("catalog", &[]).port(50051)
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
        assert_eq!(config.drain_limit, Duration::from_secs(2));
        assert_eq!(config.call_deadline, Duration::from_secs(1));
    }

    #[test]
    fn listen_of_a_service_alone_is_its_own_key() {
        let keys = [("MESH__LISTEN", "127.0.0.1:1"), ("MESH__SERVICES__CATALOG__LISTEN", "127.0.0.1:2")];
        assert_eq!(load(catalog(), &[], &keys).unwrap().listen.port(), 2);
        assert_eq!(load(catalog(), &[], &keys[..1]).unwrap().listen.port(), 1);
        assert_eq!(load(catalog(), &[], &[]).unwrap().listen.port(), 50051);
        assert_eq!(load(catalog(), &["--listen=127.0.0.1:3"], &keys).unwrap().listen.port(), 3);
        assert_eq!(load(both(), &[], &keys).unwrap().listen.port(), 1);
        assert_eq!(load(both(), &[], &[]).unwrap().listen.port(), 8080);
    }

    #[test]
    fn mistakes_are_all_reported_with_source_and_what_is_allowed() {
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
    fn wrong_types_are_mistakes_and_no_defaults() {
        for text in ["listen = 8080", "listen = ['127.0.0.1:1']", "listen = true", "log = 'json'", "data_dir = ''"] {
            let (_folder, flag) = file(text);
            assert_eq!(problems(&[&flag], &[]).len(), 1, "{text}");
        }
    }

    #[test]
    fn settings_of_a_service_are_checked_where_it_runs_and_left_alone_elsewhere() {
        static COUNT: mesh_runtime::settings::Setting<u64> = mesh_runtime::settings::Setting::number("count", 2, 1, 64);
        let counting = || catalog().setting(&COUNT);
        let variables = [("MESH__SERVICES__CATALOG__COUNT", "7")];
        let config = load(counting(), &[], &variables).unwrap();
        assert_eq!(config.settings("catalog").get(&COUNT), Some(7));
        assert!(config.listing.to_string().contains("services.catalog.count = 7"), "{}", config.listing);
        assert!(load([counting(), Service::new("other", &[])], &["--set=services.catalog.count=65"], &[]).is_err());
        assert!(load(catalog(), &[], &variables).is_err(), "it does not declare it");

        // `mesh` has a contract of another service's, which runs in another process.
        let elsewhere = "--set=services.catalgo.count=1";
        assert!(load(counting(), &[elsewhere], &[]).is_err(), "there is no such service");
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
