//! The settings of discovery: `registry`, `static`, `consul.token`, `advertise` and `sidecar.peers`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;

use super::address::{self, Address, Pattern};
use mesh_runtime::settings::{Key, Settings, Source};

/// The default port of a Consul agent.
const CONSUL_PORT: u16 = 8500;

/// The source of instances, and the place to register.
#[derive(Clone, Debug)]
pub enum Registry {
    /// No other processes.
    Local,
    /// The configured addresses of each service.
    Static(BTreeMap<String, Vec<Address>>),
    /// The addresses of each service: configured, or else derived from its name.
    Dns(Pattern, BTreeMap<String, Vec<Address>>),
    /// A Consul agent. The services of this process register with it.
    Consul(Consul),
}

/// A Consul agent, and the token for it.
#[derive(Clone)]
pub struct Consul {
    /// The HTTP API: `host:port`.
    pub agent: Authority,
    /// The ACL token, if Consul requires one.
    pub token: Option<String>,
    /// The source of the token, or a note that there is none. For error messages.
    pub token_origin: String,
}

/// Omits the token.
impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// The address of this process for other processes, if it differs from the listen address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// A host name or an IP address, an IPv6 address in brackets.
    pub host: String,
    /// The port; `None` for the listen port.
    pub port: Option<u16>,
}

const ADVERTISE: &str = "a host such as 10.0.0.7 or catalog.internal, with or without a port";
const ADDRESSES: &str = "addresses such as 127.0.0.1:50051, or catalog.internal:50051, separated by commas";
const REGISTRY: &str = "local, static, dns, a pattern such as dns://{service}.default.svc:50051, or Consul's agent such as \
                        consul://127.0.0.1:8500";
const PEERS: &str = "names of services that the contracts do not have, separated by commas";
const TOKEN: &str = "a token: visible ASCII characters without spaces";

impl Registry {
    /// Reads `registry` and `consul.token`. `alone`: the process runs one service, so the default is the local Consul
    /// agent. A process with all services defaults to `local`.
    pub fn take(alone: bool, settings: &mut Settings) -> Self {
        let token_origin = settings.source("consul.token").map(|source| format!("consul.token of {source}"));
        let token = settings.optional(&Key::new("consul.token", TOKEN).secret(), parse_token);
        let default = if alone { format!("consul://127.0.0.1:{CONSUL_PORT}") } else { "local".to_owned() };
        let key = Key::new("registry", REGISTRY).instead(registry_instead);
        if settings.source("registry").is_none() {
            settings.list(&key, default.clone(), Source::Default);
        }
        let configured = settings.optional(&key, parse_registry).or_else(|| parse_registry(&default));
        let mut registry = configured.unwrap_or(Self::Local);
        if let Self::Consul(consul) = &mut registry {
            consul.token_origin = token_origin.unwrap_or_else(|| "no token: consul.token is not set".to_owned());
            consul.token = token;
        }
        registry
    }

    /// Reads `static.SERVICE`, the addresses of one service. `listen` is the address of the service in its own process,
    /// if the configuration has it: its port completes a pattern of `dns` without a port.
    pub fn take_addresses(&mut self, service: &str, listen: Option<SocketAddr>, settings: &mut Settings) {
        let key = Key::new(format!("static.{service}"), ADDRESSES).instead(addresses_instead);
        let key = if matches!(self, Self::Static(_) | Self::Dns(..)) { key } else { key.elsewhere() };
        let set = settings.source(&format!("static.{service}")).is_some();
        let addresses = settings.optional(&key, parse_addresses);
        let (peers, derived) = match self {
            Self::Static(peers) => (peers, None),
            Self::Dns(pattern, peers) => {
                let own_port = listen.map(|listen| listen.port()).filter(|port| *port != 0);
                (peers, pattern.address(service, own_port).filter(|_| !set))
            }
            Self::Local | Self::Consul(_) => return,
        };
        if let Some(derived) = &derived {
            settings.list(&key, derived.to_string(), Source::Default);
        }
        if let Some(addresses) = addresses.or(derived.map(|derived| vec![derived])) {
            peers.insert(service.to_owned(), addresses);
        }
    }
}

/// Reads `sidecar.peers`: the services that no contract names. Each process reads the key, since files that processes
/// share may have addresses and callers of such a service. The names live as long as the process.
pub fn take_peers(settings: &mut Settings) -> Vec<&'static str> {
    settings.optional(&Key::new("sidecar.peers", PEERS), parse_names).unwrap_or_default()
}

fn parse_names(text: &str) -> Option<Vec<&'static str>> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let is_name =
        |name: &str| name.bytes().all(inner) && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
    let names = text.split(',').map(str::trim);
    names.map(|name| is_name(name).then(|| &*name.to_owned().leak())).collect()
}

fn parse_registry(text: &str) -> Option<Registry> {
    match text {
        "local" => Some(Registry::Local),
        "static" => Some(Registry::Static(BTreeMap::new())),
        "dns" => Some(Registry::Dns(Pattern::service_name(), BTreeMap::new())),
        _ if text.starts_with("dns://") => {
            Pattern::parse(text.strip_prefix("dns://")?).map(|pattern| Registry::Dns(pattern, BTreeMap::new()))
        }
        _ => {
            let agent = text.strip_prefix("consul://")?;
            let Advertise { host, port } = Advertise::parse(agent.strip_suffix('/').unwrap_or(agent))?;
            let agent = format!("{host}:{}", port.unwrap_or(CONSUL_PORT)).parse().ok()?;
            Some(Registry::Consul(Consul { agent, token: None, token_origin: String::new() }))
        }
    }
}

/// The agent's URL, for its address with another scheme, without one, or without brackets around an IPv6 address.
fn registry_instead(text: &str) -> Option<String> {
    let agent = match text.split_once("://") {
        None if text == "consul" => format!("127.0.0.1:{CONSUL_PORT}"),
        None if !text.contains(':') => return None,
        Some((scheme, _)) if !matches!(scheme, "consul" | "http" | "https") => return None,
        _ => address::instead_without_port(text).filter(|agent| !agent.contains(' '))?,
    };
    Some(format!("consul://{agent}"))
}

fn parse_addresses(text: &str) -> Option<Vec<Address>> {
    text.split(',').map(|address| Address::parse(address.trim())).collect()
}

fn addresses_instead(text: &str) -> Option<String> {
    let right =
        |address: &str| Address::parse(address).map(|right| right.to_string()).or_else(|| address::instead(address));
    let all: Option<Vec<_>> = text.split(',').map(|address| right(address.trim())).collect();
    all.map(|all| all.join(", "))
}

fn parse_token(text: &str) -> Option<String> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

impl Advertise {
    /// Reads `advertise`. It is required if Consul is used and the process listens on all interfaces, because other
    /// processes cannot call an unspecified address.
    pub fn take(registry: &Registry, listen: SocketAddr, settings: &mut Settings) -> Option<Self> {
        let set = settings.source("advertise").is_some();
        let advertise =
            settings.optional(&Key::new("advertise", ADVERTISE).instead(address::instead_without_port), Self::parse);
        if matches!(registry, Registry::Consul(_)) && !set && listen.ip().is_unspecified() {
            let message = format!(
                "must be set where the process listens on {listen}: the address that Consul gives to other processes, \
                 such as 10.0.0.7; registry = \"local\" needs no Consul"
            );
            settings.problem("advertise", Source::Together, message);
        }
        advertise
    }

    fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let host = authority.host().trim_matches(['[', ']']);
        let unspecified = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let plain = !authority.as_str().contains('@') && !host.is_empty() && !unspecified;
        // `host:` and `host:70000` parse as authorities.
        let port = match text[authority.host().len()..].strip_prefix(':') {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None => None,
        };
        plain.then(|| Self { host: authority.host().to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_runtime::settings::Error;

    fn settings(set: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (key, value) in set {
            settings.set(key, value, Source::Variable(mesh_runtime::settings::variable(key)));
        }
        settings
    }

    fn problems(settings: Settings) -> Vec<String> {
        match settings.finish() {
            Err(Error::Invalid(problems)) => problems.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn registry_defaults_to_consul_for_a_single_service() {
        let Registry::Consul(consul) = Registry::take(true, &mut settings(&[])) else { panic!() };
        assert_eq!(consul.agent, "127.0.0.1:8500");
        assert!(matches!(Registry::take(false, &mut settings(&[])), Registry::Local));
    }

    fn peer(set: &[(&str, &str)], listen: Option<&str>) -> (Option<String>, Vec<String>) {
        peer_named("other", set, listen)
    }

    fn peer_named(name: &'static str, set: &[(&str, &str)], listen: Option<&str>) -> (Option<String>, Vec<String>) {
        let mut settings = settings(set);
        let mut registry = Registry::take(false, &mut settings);
        registry.take_addresses(name, listen.map(|listen| listen.parse().unwrap()), &mut settings);
        let shown = |all: &[Address]| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let found = match &registry {
            Registry::Static(peers) | Registry::Dns(_, peers) => peers.get(name).map(|all| shown(all)),
            Registry::Local | Registry::Consul(_) => None,
        };
        (found, problems(settings))
    }

    #[test]
    fn registry_static_has_the_addresses_of_peers() {
        let addresses = ("static.other", "127.0.0.1:1, other.internal:2");
        let (found, _) = peer(&[("registry", "static"), addresses], None);
        assert_eq!(found.as_deref(), Some("127.0.0.1:1 other.internal:2"));
        assert_eq!(peer(&[("registry", "static")], Some("127.0.0.1:1")).0, None);
    }

    #[test]
    fn registry_dns_derives_addresses_from_names() {
        let listen = Some("0.0.0.0:50061");
        let found = |registry, listen| peer(&[("registry", registry)], listen).0;
        assert_eq!(found("dns://{service}.default.svc:1", listen).as_deref(), Some("other.default.svc:1"));
        assert_eq!(found("dns", listen).as_deref(), Some("other:50061"));
        assert_eq!(found("dns", Some("0.0.0.0:0")), None);
        assert_eq!(found("dns", None), None);
        let (found, _) = peer(&[("registry", "dns"), ("static.other", "localhost:1,[::1]:2")], listen);
        assert_eq!(found.as_deref(), Some("localhost:1 [::1]:2"));
        // Kubernetes allows no underscore in the name of a service, compose does.
        for (pattern, expected) in
            [("{service}", "film_reviews:1"), ("{host}.default.svc", "film-reviews.default.svc:1")]
        {
            let (found, _) = peer_named("film_reviews", &[("registry", &format!("dns://{pattern}:1"))], None);
            assert_eq!(found.as_deref(), Some(expected), "{pattern}");
        }
    }

    #[test]
    fn wrong_addresses_are_problems_that_say_what_to_write() {
        for (key, value, expected) in [
            ("static.other", "http://other:1, 10.0.0.7:2", ": write other:1, 10.0.0.7:2"),
            ("static.other", "other:1/path", ": write other:1"),
            ("static.other", "127.0.0.1", ": write 127.0.0.1:PORT"),
            ("static.other", "::1:50051", ": write [::1]:50051"),
            ("static.other", "a b:1", "not `a b:1`"),
            ("registry", "consul", ": write consul://127.0.0.1:8500"),
            ("registry", "http://agent:8500/", ": write consul://agent:8500"),
            ("registry", "10.0.0.7:8500", ": write consul://10.0.0.7:8500"),
            ("registry", "dns://{servce}:1", "not `dns://{servce}:1`"),
            ("registry", "dnss", "dns://{service}"),
        ] {
            let (_, found) = peer(&[("registry", "static"), (key, value)], None);
            assert!(found.len() == 1 && found[0].contains(expected), "{value}: {found:?}");
        }
    }

    #[test]
    fn registry_consul_has_an_optional_port() {
        let agent = |text: &str| match parse_registry(text) {
            Some(Registry::Consul(consul)) => Some(consul.agent.to_string()),
            _ => None,
        };
        assert_eq!(agent("consul://agent.internal").unwrap(), "agent.internal:8500");
        assert_eq!(agent("consul://[::1]:1/").unwrap(), "[::1]:1");
        for wrong in
            ["consul://", "consul://a:", "consul://a:0", "consul://a:70000", "consul://u@a", "consul:/a", "http://a"]
        {
            assert!(parse_registry(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn advertise_is_required_on_an_unspecified_address() {
        let take = |set: &[(&str, &str)]| {
            let mut settings = settings(set);
            let registry = Registry::take(true, &mut settings);
            let advertise = Advertise::take(&registry, "0.0.0.0:0".parse().unwrap(), &mut settings);
            (advertise, problems(settings))
        };
        let (_, found) = take(&[]);
        assert!(found.len() == 1 && found[0].contains("advertise"), "{found:?}");
        assert_eq!(take(&[("advertise", "0.0.0.0")]).1.len(), 1);
        let (_, found) = take(&[("advertise", "::1")]);
        assert!(found.len() == 1 && found[0].ends_with(": write [::1], or [::1]:PORT with a port"), "{found:?}");
        let (advertise, found) = take(&[("advertise", "10.0.0.7")]);
        assert_eq!(advertise, Some(Advertise { host: "10.0.0.7".to_owned(), port: None }));
        assert!(found.is_empty());
        assert!(take(&[("registry", "local")]).1.is_empty());
    }

    #[test]
    fn consul_token_is_hidden_and_its_source_is_shown() {
        let Registry::Consul(consul) = Registry::take(true, &mut settings(&[("consul.token", "secret")])) else {
            panic!()
        };
        assert_eq!(consul.token.as_deref(), Some("secret"));
        assert!(consul.token_origin.contains("MESH__CONSUL__TOKEN"));
        assert!(!format!("{consul:?}").contains("secret"));
        let mut wrong = settings(&[("consul.token", "sec ret")]);
        Registry::take(true, &mut wrong);
        let wrong = problems(wrong);
        assert!(wrong.len() == 1 && !wrong[0].contains("sec ret"), "{wrong:?}");
    }
}
