//! The keys that say how services of different processes find each other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::uri::Authority;

use super::settings::{Origin, Settings};
use crate::service::Process;

/// Where Consul's agents listen unless they are told otherwise.
const CONSUL_PORT: u16 = 8500;

/// How the services of other processes are found, and those of this one by them.
#[derive(Clone, Debug)]
pub enum Registry {
    /// Not at all: everything is in this process.
    Local,
    /// At these addresses, by the name of the service.
    Static(BTreeMap<String, Vec<SocketAddr>>),
    /// Through Consul, which is told where the services of this process are.
    Consul(Consul),
}

/// An agent of Consul, and who we are to it.
#[derive(Clone)]
pub struct Consul {
    /// Where its HTTP API is: `host:port`.
    pub agent: Authority,
    /// The ACL token, if one is needed.
    pub token: Option<String>,
    /// Where the token was said, or that there is none: for whoever has to mend it.
    pub token_origin: String,
}

/// Never shows the token.
impl fmt::Debug for Consul {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consul").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// Where others reach this process, when that is not where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// A name or an IP address; one of version 6 in brackets.
    pub host: String,
    /// The port, if it is not the one it listens on.
    pub port: Option<u16>,
}

pub(super) const ADVERTISE: &str = "a host such as 10.0.0.7 or catalog.internal, with or without a port";
pub(super) const ADDRESSES: &str = "addresses such as 127.0.0.1:50051, 127.0.0.1:50061";
const REGISTRY: &str = "local, static, or Consul's agent such as consul://127.0.0.1:8500";
const TOKEN: &str = "a token: visible ASCII characters without spaces";

/// Reads the keys `registry` and `consul.token`.
pub(super) fn take(process: &Process, settings: &mut Settings) -> Registry {
    let token_origin = settings.origin("consul.token").map(|origin| format!("consul.token of {origin}"));
    let token = settings.take("consul.token", TOKEN, parse_token);
    let mut registry = settings.take("registry", REGISTRY, parse_registry).unwrap_or_else(|| default_for(process));
    if let Registry::Consul(consul) = &mut registry {
        consul.token_origin = token_origin.unwrap_or_else(|| "no token: consul.token is not set".to_owned());
        consul.token = token;
    }
    registry
}

/// One service in a process of its own has others to find; all of them in one process have not.
fn default_for(process: &Process) -> Registry {
    let agent = format!("consul://127.0.0.1:{CONSUL_PORT}");
    parse_registry(&agent).filter(|_| process.alone).unwrap_or(Registry::Local)
}

/// "Every interface" is where to listen, but nowhere to call.
pub(super) fn refuse_nowhere(registry: &Registry, advertised: bool, listen: SocketAddr, settings: &mut Settings) {
    if matches!(registry, Registry::Consul(_)) && !advertised && listen.ip().is_unspecified() {
        let message = format!(
            "must say where others reach what listens on {listen}, such as 10.0.0.7, for Consul to tell them; \
             registry = \"local\" does without Consul"
        );
        settings.problem("advertise", Origin::default(), message);
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

pub(super) fn parse_addresses(text: &str) -> Option<Vec<SocketAddr>> {
    text.split(',').map(|address| address.trim().parse().ok()).collect()
}

fn parse_token(text: &str) -> Option<String> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| text.to_owned())
}

impl Advertise {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let host = authority.host().trim_matches(['[', ']']);
        let everywhere = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        let plain = !authority.as_str().contains('@') && !host.is_empty() && !everywhere;
        // `host:` and `host:70000` are authorities, too.
        let port = match text[authority.host().len()..].strip_prefix(':') {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None => None,
        };
        plain.then(|| Self { host: authority.host().to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{load, problems};
    use super::*;
    use crate::service::Service;

    fn registry(environment: &[(&str, &str)]) -> Registry {
        load(Service::new("other", &[]), &[], environment).unwrap().registry
    }

    #[test]
    fn a_service_alone_looks_for_consul_and_several_for_nobody() {
        let Registry::Consul(consul) = registry(&[]) else { panic!() };
        assert_eq!(consul.agent, "127.0.0.1:8500");
        let together = load([Service::new("catalog", &[]), Service::new("other", &[])], &[], &[]).unwrap();
        assert!(matches!(together.registry, Registry::Local));
    }

    #[test]
    fn peers_are_where_a_static_registry_says() {
        let addresses = ("MESH__STATIC__OTHER", "127.0.0.1:1, 127.0.0.1:2");
        let Registry::Static(peers) = registry(&[("MESH__REGISTRY", "static"), addresses]) else { panic!() };
        assert_eq!(peers["other"].len(), 2);
        assert!(matches!(registry(&[("MESH__REGISTRY", "local"), addresses]), Registry::Local));
        let wrong = problems(&["--set=registry=dns"], &[("MESH__STATIC__CATALOG", "127.0.0.1")]);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn an_agent_has_a_host_and_perhaps_a_port() {
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
    fn nobody_can_call_every_interface() {
        let everywhere = ["--listen=0.0.0.0:0", "--set=registry=consul://127.0.0.1"];
        let problems = problems(&everywhere, &[]);
        assert!(problems.len() == 1 && problems[0].contains("advertise"), "{problems:?}");
        assert_eq!(super::super::tests::problems(&everywhere, &[("MESH__ADVERTISE", "0.0.0.0")]).len(), 1);
        let advertise = [("MESH__ADVERTISE", "10.0.0.7")];
        let config = load(Service::new("catalog", &[]), &everywhere, &advertise).unwrap();
        assert_eq!(config.advertise, Some(Advertise { host: "10.0.0.7".to_owned(), port: None }));
    }

    #[test]
    fn a_token_is_never_shown_but_where_it_was_said_is_known() {
        let Registry::Consul(consul) = registry(&[("MESH__CONSUL__TOKEN", "secret")]) else { panic!() };
        assert_eq!(consul.token.as_deref(), Some("secret"));
        assert!(consul.token_origin.contains("MESH__CONSUL__TOKEN"));
        assert!(!format!("{consul:?}").contains("secret"));
        let wrong = problems(&[], &[("MESH__CONSUL__TOKEN", "sec ret")]);
        assert!(!wrong[0].contains("sec ret"), "{wrong:?}");
    }
}
