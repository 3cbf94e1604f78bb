//! The settings `auth`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mesh_runtime::settings::{Key, Settings as Keys, Shown, Source, parse};
use mesh_token::issuer::check_ca_file;
use mesh_token::{Issuer, Tokens, development};

use super::intentions::{Intentions, System};
use crate::identity::Transport;

const MODE: &str = "auth.mode";
const ISSUERS: &str = "auth.issuers";
const ISSUER_BUNDLE: &str = "auth.issuer_bundle";
const VOUCHERS: &str = "auth.vouchers";
const REFLECTION: &str = "auth.reflection";
const INTENTIONS: &str = "auth.intentions";
/// The value of `auth.intentions` for those of Consul.
const CONSUL: &str = "consul";
/// The processes that clients from outside of the mesh call, unless other ones are named.
const DEFAULT_VOUCHERS: &str = "gateway, monolith";

/// Whether callers need an identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Every caller may call everything, and is anonymous.
    #[default]
    Off,
    /// Contracts decide who may call what.
    Required,
}

/// What a process asks of its callers.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether it asks.
    pub mode: Mode,
    /// The issuers of users' tokens. `None` if users are known by passports alone.
    pub tokens: Option<Tokens>,
    /// The services whose word counts for users.
    pub vouchers: Vec<String>,
    /// Whether reflection is for all callers.
    pub shows_contracts: bool,
    /// Which services may call which. `None`: each may call all others.
    pub intentions: Option<Intentions>,
    /// Whether the one issuer is that of development, by default.
    pub is_development: bool,
}

/// What the settings depend on.
pub struct Around<'a> {
    /// The address at which other processes call this one. `None` for a gateway.
    pub inside: Option<SocketAddr>,
    /// The addresses at which clients call it.
    pub outside: &'a [SocketAddr],
    /// The services and processes of the system.
    pub system: &'a System,
    /// The TLS of calls between processes.
    pub transport: &'a Transport,
    /// Whether other processes call this one, or the other way round.
    pub has_peers_elsewhere: bool,
    /// Whether a Consul agent is known.
    pub has_consul: bool,
}

impl Settings {
    /// Warns if a caller on another machine reaches one of these addresses and needs no identity.
    pub fn warn_if_open(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let reached = addresses.into_iter().find(|address| !address.ip().is_loopback());
        if let (Mode::Off, Some(address)) = (self.mode, reached) {
            tracing::warn!(%address, "auth.mode is off: whoever reaches this address may call everything there");
        }
    }

    /// Reads the keys.
    pub fn take(around: &Around<'_>, keys: &mut Keys) -> Self {
        let is_local = around.inside.iter().chain(around.outside).all(|listen| listen.ip().is_loopback());
        let from = |key: &str, keys: &Keys| keys.source(key).cloned().unwrap_or(Source::Default);
        let (of_mode, of_issuers, of_vouchers) = (from(MODE, keys), from(ISSUERS, keys), from(VOUCHERS, keys));
        let names = "issuers separated by commas, each as ISSUER AUDIENCE, or ISSUER AUDIENCE KEYS";
        let is_named = keys.source(ISSUERS).is_some();
        let named = keys.optional(&Key::new(ISSUERS, names), entries);
        let bundle = issuer_bundle(is_named, keys);
        let default = if named.is_some() { Mode::Required } else { Mode::Off };
        let mode = keys.take(&Key::new(MODE, "off or required"), default, mode_of);
        let default = if is_local { Reflection::Open } else { Reflection::Internal };
        let reflection = keys.take(&Key::new(REFLECTION, "open or internal"), default, reflection_of);
        let vouchers =
            keys.take(&Key::new(VOUCHERS, "names of services, separated by commas"), Names::default(), names_of);

        let is_development = named.is_none() && is_local && (!around.has_peers_elsewhere || around.is_in_development());
        let cannot_work = mode == Mode::Required && around.has_peers_elsewhere && !around.is_mutual();
        // Without passports, tokens are all that callers can have.
        let has_clients = !around.outside.is_empty() || !around.is_mutual();
        if mode == Mode::Required && !is_named && !is_development && has_clients && !cannot_work {
            let message = "is not set, and clients call this process: name the issuers of their tokens".to_owned();
            keys.problem(ISSUERS, of_mode.clone(), message);
        }
        if mode == Mode::Off && named.is_some() {
            let message =
                "is off, and auth.issuers names issuers whose tokens nobody would ask for: remove one of both";
            keys.problem(MODE, of_mode.clone(), message.to_owned());
        }
        let entries = named.unwrap_or_else(|| if is_development { vec![development_entry()] } else { Vec::new() });
        if entries.iter().any(|entry| entry.issuer == development::ISSUER) && !is_local {
            let message =
                "names the issuer of development, whose key lies in a folder, and other machines reach this process";
            keys.problem(ISSUERS, of_issuers.clone(), message.to_owned());
        }
        let tokens = tokens(&entries, bundle.as_deref()).unwrap_or_else(|mistakes| {
            for mistake in mistakes {
                keys.problem(ISSUERS, of_issuers.clone(), format!("names an issuer that cannot be used: {mistake}"));
            }
            None
        });
        for unknown in vouchers.0.iter().filter(|name| !around.system.names.contains(name.as_str())) {
            let message = format!("names `{unknown}`, which is no service of this system");
            keys.problem(VOUCHERS, of_vouchers.clone(), message);
        }
        if cannot_work {
            let message = "is required, and services in other processes do not know who calls without certificates: set \
                           tls.mode to mutual, as `scripts/up --tls` does";
            keys.problem(MODE, of_mode, message.to_owned());
        }
        let (intentions, shows_contracts) = (intentions(mode, around, keys), reflection == Reflection::Open);
        Self { mode, tokens, vouchers: vouchers.0, shows_contracts, intentions, is_development }
    }
}

/// The file of the authorities by which issuers are asked.
fn issuer_bundle(has_issuers: bool, keys: &mut Keys) -> Option<PathBuf> {
    let source = keys.source(ISSUER_BUNDLE).cloned();
    let (path, source) = keys.optional(&Key::new(ISSUER_BUNDLE, "a file"), parse::path).zip(source)?;
    if !has_issuers {
        keys.problem(ISSUER_BUNDLE, source, "is set, and auth.issuers names no issuer".to_owned());
    } else if let Err(why) = check_ca_file(&path) {
        keys.problem(ISSUER_BUNDLE, source, format!("names a file of authorities that cannot be used: {why}"));
    }
    Some(path)
}

fn intentions(mode: Mode, around: &Around<'_>, keys: &mut Keys) -> Option<Intentions> {
    let source = keys.source(INTENTIONS).cloned();
    let (path, source) = keys.optional(&Key::new(INTENTIONS, "a file, or consul"), parse::path).zip(source)?;
    if mode == Mode::Off {
        keys.problem(INTENTIONS, source, "is set, and auth.mode is off: nobody would be asked who calls".to_owned());
        return None;
    }
    if path == Path::new(CONSUL) {
        if !around.has_consul {
            let message =
                "is consul, and registry names no agent of it: set registry to consul://HOST:PORT; ./consul is a file";
            keys.problem(INTENTIONS, source, message.to_owned());
        }
        return Some(Intentions::in_consul(around.system.clone()));
    }
    let read = Intentions::read(&path, around.system.clone());
    let noted = read.map_err(|mistakes| {
        for mistake in mistakes {
            keys.problem(INTENTIONS, source.clone(), mistake);
        }
    });
    noted.ok()
}

impl Around<'_> {
    /// Whether calls between processes are by mutual TLS.
    fn is_mutual(&self) -> bool {
        use crate::identity::Mode;
        let by_address = self.inside.is_some_and(|inside| self.transport.is_mutual_at(inside));
        self.transport.source.is_some() && (self.transport.mode == Mode::Mutual || by_address)
    }

    /// Whether the certificates are those of development, whose authority lies beside the key of the issuer.
    fn is_in_development(&self) -> bool {
        self.transport
            .source
            .as_ref()
            .is_some_and(|source| source.current().trust_domain() == development::TRUST_DOMAIN)
    }
}

/// An issuer, as the key names it.
#[derive(Clone)]
struct Entry {
    issuer: String,
    audience: String,
    keys: Option<String>,
}

fn development_entry() -> Entry {
    let [issuer, audience, keys] = [development::ISSUER, development::AUDIENCE, development::KEYS].map(str::to_owned);
    Entry { issuer, audience, keys: Some(keys) }
}

fn entries(text: &str) -> Option<Vec<Entry>> {
    let entry = |text: &str| {
        let mut words = text.split_whitespace().map(str::to_owned);
        let entry = Entry { issuer: words.next()?, audience: words.next()?, keys: words.next() };
        words.next().is_none().then_some(entry)
    };
    text.split(',').map(entry).collect()
}

fn tokens(entries: &[Entry], bundle: Option<&Path>) -> Result<Option<Tokens>, Vec<String>> {
    let (mut issuers, mut mistakes) = (Vec::new(), Vec::new());
    for entry in entries {
        match Issuer::new(&entry.issuer, &entry.audience, entry.keys.as_deref()) {
            Ok(issuer) => issuers.push(bundle.into_iter().fold(issuer, Issuer::with_ca_file)),
            Err(wrong) => mistakes.extend(wrong),
        }
    }
    match mistakes.is_empty() {
        true if issuers.is_empty() => Ok(None),
        true => Tokens::new(issuers).map(Some),
        false => Err(mistakes),
    }
}

/// Names of services.
struct Names(Vec<String>);

impl Default for Names {
    fn default() -> Self {
        Self(DEFAULT_VOUCHERS.split(", ").map(str::to_owned).collect())
    }
}

impl Shown for Names {
    fn shown(&self) -> String {
        self.0.join(", ")
    }
}

fn names_of(text: &str) -> Option<Names> {
    let names: Vec<_> = text.split(',').map(|name| name.trim().to_owned()).collect();
    names.iter().all(|name| !name.is_empty()).then_some(Names(names))
}

impl Shown for Mode {
    fn shown(&self) -> String {
        let name = match self {
            Self::Off => "off",
            Self::Required => "required",
        };
        name.to_owned()
    }
}

fn mode_of(text: &str) -> Option<Mode> {
    match text {
        "off" => Some(Mode::Off),
        "required" => Some(Mode::Required),
        _ => None,
    }
}

/// For whom reflection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reflection {
    Open,
    Internal,
}

impl Shown for Reflection {
    fn shown(&self) -> String {
        let name = match self {
            Self::Open => "open",
            Self::Internal => "internal",
        };
        name.to_owned()
    }
}

fn reflection_of(text: &str) -> Option<Reflection> {
    match text {
        "open" => Some(Reflection::Open),
        "internal" => Some(Reflection::Internal),
        _ => None,
    }
}
