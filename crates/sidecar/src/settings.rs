//! The settings `sidecar`.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use mesh_rpc::call::Methods;
use mesh_rpc::discovery::take_peers;
use mesh_runtime::settings::{Key, Settings, Shown, Source, parse};

use crate::health::Asked;

const SERVICE: &str = "sidecar.service";
const APP: &str = "sidecar.app";
const PROTOCOL: &str = "sidecar.protocol";
const OUTBOUND: &str = "sidecar.outbound";
const HEALTH: &str = "sidecar.health";
const CONTRACTS: &str = "sidecar.contracts";
const COMMAND: &str = "sidecar.command";

/// An address of this machine alone.
pub(crate) const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// What an app speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// gRPC, by the contracts whose package begins with the name of the service.
    Grpc,
    /// HTTP/1.1.
    Http1,
}

/// The app, and the service that it is.
pub(crate) struct Sidecar {
    /// The name of the service. It lives as long as the process; empty if it is missing.
    pub(crate) service: &'static str,
    /// The address of the app. Port 0: a free one is picked, and told to the app.
    pub(crate) app: SocketAddr,
    pub(crate) protocol: Protocol,
    /// The address at which the app calls others.
    pub(crate) outbound: SocketAddr,
    pub(crate) health: Asked,
    pub(crate) contracts: Option<PathBuf>,
    /// Services that the contracts do not have.
    pub(crate) peers: Vec<&'static str>,
    /// The command that starts the app. Empty: a supervisor does.
    pub(crate) command: Vec<OsString>,
}

impl Sidecar {
    /// Reads the keys. `command` is that of the command line, which wins.
    pub(crate) fn take(command: Vec<OsString>, settings: &mut Settings) -> Self {
        let missing = |key: &str, what: &str, settings: &mut Settings| {
            if settings.source(key).is_none() {
                settings.problem(key, Source::Default, format!("is not set: {what}"));
            }
        };
        missing(SERVICE, "the service that the program beside the sidecar is, such as recommendations", settings);
        let service = settings.optional(&Key::new(SERVICE, "a name such as recommendations"), name).unwrap_or_default();
        let named = settings.optional(&Key::new(COMMAND, "a program and its arguments"), words).unwrap_or_default();
        let command = if command.is_empty() { named } else { command };
        let starts = !command.is_empty();
        if !starts {
            missing(APP, "the address of the program beside the sidecar, such as 127.0.0.1:9000", settings);
        }
        let of_loopback = |text: &str| parse::address(text).filter(|address| address.ip().is_loopback());
        let of_program = |text: &str| of_loopback(text).filter(|address| starts || address.port() != 0);
        let app = Key::new(
            APP,
            "an address of loopback such as 127.0.0.1:9000, with port 0 only for a program that the sidecar starts",
        );
        let app = settings.take(&app, loopback(0), of_program);
        let protocol = settings.take(&Key::new(PROTOCOL, "grpc or http1"), Protocol::Grpc, Protocol::of);
        let outbound = Key::new(OUTBOUND, "an address of loopback such as 127.0.0.1:7000 (port 0 picks a free one)");
        let outbound = settings.take(&outbound, loopback(7000), of_loopback);
        let health = Key::new(HEALTH, "grpc, tcp, or a path such as /healthz");
        let default = if protocol == Protocol::Grpc { Asked::Grpc } else { Asked::Tcp };
        let health = settings.take(&health, default, Asked::of);
        let contracts = settings.optional(&Key::new(CONTRACTS, "the file of a descriptor set"), parse::path);
        let peers = take_peers(settings);
        Self { service, app, protocol, outbound, health, contracts, peers, command }
    }

    /// Checks the keys against each other and against the contracts.
    pub(crate) fn check(&self, methods: &Methods, settings: &mut Settings) {
        if self.service.is_empty() {
            return;
        }
        let mut problem = |key: &str, message: String| settings.problem(key, Source::Together, message);
        if self.protocol == Protocol::Grpc && methods.contracts_of(self.service).is_empty() {
            let known = methods.services().into_iter().collect::<Vec<_>>().join(", ");
            let known = if known.is_empty() { "none".to_owned() } else { known };
            let message = format!(
                "is `{0}`, and no contract has a package that begins with it: those are of {known}; name another set with \
                 {CONTRACTS}, or set {PROTOCOL} to http1",
                self.service
            );
            problem(SERVICE, message);
        }
        match (self.protocol, &self.health) {
            (Protocol::Http1, Asked::Grpc) => {
                problem(HEALTH, format!("is grpc, and {PROTOCOL} is http1: set it to tcp or to a path"));
            }
            (Protocol::Grpc, Asked::Path(_)) => {
                problem(HEALTH, format!("is a path, and {PROTOCOL} is grpc: set it to grpc or tcp"));
            }
            _ => {}
        }
        if self.app == self.outbound && self.app.port() != 0 {
            problem(OUTBOUND, format!("is {}, and so is {APP}: they are two listeners", self.app));
        }
    }
}

impl Protocol {
    fn of(text: &str) -> Option<Self> {
        match text {
            "grpc" => Some(Self::Grpc),
            "http1" => Some(Self::Http1),
            _ => None,
        }
    }
}

impl Shown for Protocol {
    fn shown(&self) -> String {
        match self {
            Self::Grpc => "grpc",
            Self::Http1 => "http1",
        }
        .to_owned()
    }
}

/// The first segments of packages that belong to no service.
const OF_MESH: [&str; 3] = ["google", "grpc", "mesh"];

/// The name of a service, which is also the host of its requests and a segment of its certificate's ID.
fn name(text: &str) -> Option<&'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let valid = text.bytes().all(inner) && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
    (valid && !OF_MESH.contains(&text)).then(|| &*text.to_owned().leak())
}

/// Words separated by spaces, without quotes.
fn words(text: &str) -> Option<Vec<OsString>> {
    let words: Vec<_> = text.split_whitespace().map(OsString::from).collect();
    (!words.is_empty()).then_some(words)
}
