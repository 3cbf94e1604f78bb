//! The configuration of a sidecar: its own keys, under `sidecar`, and those that every process has.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use mesh_rpc::auth;
use mesh_rpc::call::Methods;
use mesh_rpc::client::Calling;
use mesh_rpc::discovery::{Advertise, Registry};
use mesh_rpc::identity::Transport;
use mesh_rpc::server::{Drain, Limits};
use mesh_rpc::telemetry::{KeepCalls, Log, Otlp};
use mesh_runtime::command_line::ConfigFlags;
use mesh_runtime::settings::{Error, Key, Listing, Settings, Source, parse};

use crate::settings::{Sidecar, loopback};

/// The defaults of `listen` and `admin.listen`.
const LISTEN: SocketAddr = loopback(7001);
const ADMIN: SocketAddr = loopback(0);

/// Tables and keys of a shared file that are for processes with services.
const ELSEWHERE: [&str; 7] = ["database", "edge", "events", "nats", "operations", "release", "dashboard"];

/// The command line.
#[derive(Parser)]
#[command(
    name = "sidecar",
    about = "Stands beside a program in any language, and makes it a service of the mesh. See docs/guide/other-languages.md",
    version
)]
struct Flags {
    #[command(flatten)]
    config: ConfigFlags,
    /// The address for other processes; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The program and its arguments; without it, the program is started by somebody else
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// A checked configuration.
pub(crate) struct Config {
    pub(crate) sidecar: Sidecar,
    /// The encoded descriptor set of the contracts, and its methods.
    pub(crate) descriptors: &'static [u8],
    pub(crate) methods: Methods,
    /// The services that the app can call.
    pub(crate) names: BTreeSet<&'static str>,
    pub(crate) listen: SocketAddr,
    pub(crate) admin_listen: SocketAddr,
    pub(crate) drain: Drain,
    pub(crate) call_deadline: Duration,
    pub(crate) limits: Limits,
    pub(crate) transport: Transport,
    pub(crate) auth: auth::Settings,
    pub(crate) log: Log,
    pub(crate) otlp: Option<Otlp>,
    pub(crate) keep_calls: KeepCalls,
    pub(crate) registry: Registry,
    pub(crate) advertise: Option<Advertise>,
    pub(crate) print: bool,
    pub(crate) check_only: bool,
    pub(crate) listing: Listing,
}

impl Config {
    /// Reads flags, environment and file. `contracts` are those that are compiled in.
    ///
    /// # Errors
    ///
    /// All problems at once, each with its source and the allowed values.
    pub(crate) fn load(
        contracts: &'static [u8],
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Error> {
        let matches = Flags::command().try_get_matches_from(arguments);
        let flags = matches.and_then(|matches| Flags::from_arg_matches(&matches)).map_err(Error::Usage)?;
        let mut settings = flags.config.read(environment);
        if let Some(listen) = &flags.listen {
            settings.set("listen", listen, Source::Flag("--listen".to_owned()));
        }
        flags.config.flags(&mut settings);
        Self::check(contracts, settings, flags)
    }

    fn check(contracts: &'static [u8], mut settings: Settings, flags: Flags) -> Result<Self, Error> {
        let sidecar = Sidecar::take(flags.command, &mut settings);
        let own = match sidecar.contracts.as_deref() {
            Some(file) => read_set(file, &mut settings),
            None => Some((contracts, Methods::of(&[contracts]))),
        };
        let has_contracts = own.is_some();
        let (descriptors, methods) = own.unwrap_or_else(|| (&[], Methods::of(&[])));

        let listen = settings.take(&Key::new("listen", parse::ADDRESS), LISTEN, parse::address);
        let admin_listen = settings.take(&Key::new("admin.listen", parse::ADDRESS), ADMIN, parse::address);
        let drain = Drain::take(&mut settings);
        let call_deadline = Calling::take_deadline(&mut settings);
        let limits = Limits::take(&mut settings);
        let log = Log::take(&mut settings);
        let otlp = Otlp::take(&mut settings);
        let keep_calls = KeepCalls::take(&mut settings);

        let mut registry = Registry::take(true, &mut settings);
        let names = names(&sidecar, &methods);
        for name in &names {
            let key = Key::new(format!("services.{name}.listen"), parse::ADDRESS).elsewhere();
            let other = settings.optional(&key, parse::address);
            registry.take_addresses(name, other, &mut settings);
            settings.shared(&format!("services.{name}"));
        }
        for table in ELSEWHERE {
            settings.shared(table);
        }
        settings.optional(&Key::new("data_dir", "a folder").elsewhere(), parse::path);
        if has_contracts {
            sidecar.check(&methods, &mut settings);
        }

        let transport = Transport::take(&[sidecar.service], Some(listen), &mut settings);
        let auth = take_auth(&sidecar, names.clone(), (listen, &methods, &registry), &transport, &mut settings);
        let advertise = Advertise::take(&registry, listen, &mut settings);
        let listing = settings.finish()?;
        let (print, check_only) = (flags.config.print_config, flags.config.check_config);
        Ok(Self {
            sidecar,
            descriptors,
            methods,
            names,
            listen,
            admin_listen,
            drain,
            call_deadline,
            limits,
            transport,
            auth,
            log,
            otlp,
            keep_calls,
            registry,
            advertise,
            print,
            check_only,
            listing,
        })
    }
}

/// The services that the app can call: those of the contracts, those without one that the settings name, and itself.
fn names(sidecar: &Sidecar, methods: &Methods) -> BTreeSet<&'static str> {
    let named = sidecar.peers.iter().copied().chain([sidecar.service]).filter(|name| !name.is_empty());
    methods.services().into_iter().chain(named).collect()
}

/// Reads a descriptor set that lives as long as the process.
fn read_set(file: &Path, settings: &mut Settings) -> Option<(&'static [u8], Methods)> {
    let read = || {
        let bytes = std::fs::read(file).map_err(|error| error.to_string())?;
        let what = "it is no google.protobuf.FileDescriptorSet; `protoc --descriptor_set_out` writes one";
        let methods = Methods::read(&[&bytes]).map_err(|_| what.to_owned())?;
        Ok((&*bytes.leak(), methods))
    };
    let noted = |why: String| {
        let message = format!("names a file that cannot be used, {}: {why}", file.display());
        settings.problem("sidecar.contracts", Source::Together, message);
    };
    read().map_err(noted).ok()
}

fn take_auth(
    sidecar: &Sidecar,
    names: BTreeSet<&'static str>,
    (listen, methods, registry): (SocketAddr, &Methods, &Registry),
    transport: &Transport,
    settings: &mut Settings,
) -> auth::Settings {
    let names = names.into_iter().chain(auth::intentions::KNOWN_CALLERS).collect();
    let (process, local) = (sidecar.service, vec![sidecar.service]);
    let system = auth::intentions::System { process, names, methods: methods.clone(), local };
    let around = auth::settings::Around {
        inside: Some(listen),
        outside: &[],
        system: &system,
        transport,
        has_peers_elsewhere: true,
        has_consul: matches!(registry, Registry::Consul(_)),
    };
    auth::Settings::take(&around, settings)
}
