//! The settings of discovery: `registry`, `static`, `consul.token` and `advertise`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;

use mesh_runtime::settings::{Key, Settings, Source};

/// The default port of a Consul agent.
const CONSUL_PORT: u16 = 8500;

/// The source of instances, and the place to register.
#[derive(Clone, Debug)]
pub enum Registry {
    /// No other processes.
    Local,
    /// The configured addresses of each service.
    Static(BTreeMap<String, Vec<SocketAddr>>),
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
const ADDRESSES: &str = "addresses such as 127.0.0.1:50051, 127.0.0.1:50061";
const REGISTRY: &str = "local, static, or Consul's agent such as consul://127.0.0.1:8500";
const TOKEN: &str = "a token: visible ASCII characters without spaces";

impl Registry {
    /// Reads `registry` and `consul.token`. `alone`: the process runs one service, so the default is the local Consul
    /// agent. A process with all services defaults to `local`.
    pub fn take(alone: bool, settings: &mut Settings) -> Self {
        let token_origin = settings.source("consul.token").map(|source| format!("consul.token of {source}"));
        let token = settings.optional(&Key::new("consul.token", TOKEN).secret(), parse_token);
        let default = if alone { format!("consul://127.0.0.1:{CONSUL_PORT}") } else { "local".to_owned() };
        let key = Key::new("registry", REGISTRY);
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

    /// Reads `static.SERVICE`, the addresses of one service.
    pub fn take_addresses(&mut self, service: &str, settings: &mut Settings) {
        let key = Key::new(format!("static.{service}"), ADDRESSES);
        let key = if matches!(self, Self::Static(_)) { key } else { key.elsewhere() };
        let addresses = settings.optional(&key, parse_addresses);
        if let (Self::Static(peers), Some(addresses)) = (self, addresses) {
            peers.insert(service.to_owned(), addresses);
        }
    }
}

fn parse_registry(text: &str) -> Option<Registry> {
    match text {
        "local" => Some(Registry::Local),
        "static" => Some(Registry::Static(BTreeMap::new())),
        _ => {
            let agent = text.strip_prefix("consul://")?;
            let Advertise { host, port } = Advertise::parse(agent.strip_suffix('/').unwrap_or(agent))?;
            let agent = format!("{host}:{}", port.unwrap_or(CONSUL_PORT)).parse().ok()?;
            Some(Registry::Consul(Consul { agent, token: None, token_origin: String::new() }))
        }
    }
}

fn parse_addresses(text: &str) -> Option<Vec<SocketAddr>> {
    text.split(',').map(|address| address.trim().parse().ok()).collect()
}

fn parse_token(text: &str) -> Option<String> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

impl Advertise {
    /// Reads `advertise`. It is required if Consul is used and the process listens on all interfaces, because other
    /// processes cannot call an unspecified address.
    pub fn take(registry: &Registry, listen: SocketAddr, settings: &mut Settings) -> Option<Self> {
        let set = settings.source("advertise").is_some();
        let advertise = settings.optional(&Key::new("advertise", ADVERTISE), Self::parse);
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

    #[test]
    fn registry_static_has_the_addresses_of_peers() {
        let addresses = ("static.other", "127.0.0.1:1, 127.0.0.1:2");
        let mut both = settings(&[("registry", "static"), addresses]);
        let mut registry = Registry::take(false, &mut both);
        registry.take_addresses("other", &mut both);
        let Registry::Static(peers) = registry else { panic!() };
        assert_eq!(peers["other"].len(), 2);

        let mut wrong = settings(&[("registry", "dns"), ("static.other", "127.0.0.1")]);
        Registry::take(false, &mut wrong).take_addresses("other", &mut wrong);
        assert_eq!(problems(wrong).len(), 2);
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
