//! Addresses of peers in the configuration: an IP address or a host name, and a port.
//!
//! Guarantees:
//! - A host name is checked for its syntax alone. Whether it exists is not known before a lookup.
//! - [`instead`] returns only text that is valid once `PORT` is replaced.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use consul_api_client::host_port;

/// The placeholder for the name of a service.
const SERVICE: &str = "{service}";
/// The placeholder for that name as the host names of DNS allow it: with `-` for each `_`.
const HOST: &str = "{host}";
/// Stands for the port in a suggestion.
const PORT: &str = "PORT";

/// The address of one or several instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// One instance.
    Ip(SocketAddr),
    /// All instances that have this name in DNS.
    Name {
        /// The host name.
        host: String,
        /// The port, from 1.
        port: u16,
    },
}

impl Address {
    /// Reads `HOST:PORT`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            // An address with a zone, such as `[fe80::1%2]:50051`, is not an authority of a URI.
            return (address.port() != 0 && !text.contains('%')).then_some(Self::Ip(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        is_host_name(host).then(|| Self::Name { host: host.to_owned(), port })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A host name by RFC 1123, with the underscores that container names have. A name whose last label is a number would
/// be read as an IP address by some resolvers, such as `10.0.1` as 10.0.0.1.
fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= 253 && name.split('.').all(label) && !name.rsplit('.').next().is_some_and(is_number)
}

/// Derives the address of a service from its name: `{service}.default.svc:50051`, or `{host}.default.svc:50051` where
/// no host name may have an underscore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    host: String,
    /// `None`: each service has its own.
    port: Option<u16>,
}

impl Pattern {
    /// The name of the service as the host, with the service's own port.
    pub(super) fn service_name() -> Self {
        Self { host: SERVICE.to_owned(), port: None }
    }

    /// Reads `HOST` or `HOST:PORT`, in which `{service}` or `{host}` stands for the name of a service.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
            None => (text, None),
        };
        is_host_name(&host.replace(SERVICE, "service").replace(HOST, "host"))
            .then(|| Self { host: host.to_owned(), port })
    }

    /// The address of `service`. `own_port` applies if the pattern has no port; without either there is no address.
    pub(super) fn address(&self, service: &str, own_port: Option<u16>) -> Option<Address> {
        let port = self.port.or(own_port)?;
        let host = self.host.replace(SERVICE, service).replace(HOST, &service.replace('_', "-"));
        Some(Address::Name { host, port })
    }
}

/// The text that was probably meant by `HOST:PORT` with a scheme, a path, no port, or no brackets around an IPv6
/// address.
pub(super) fn instead(text: &str) -> Option<String> {
    let (host, port) = host_and_port(text)?;
    let port = port.map_or(PORT.to_owned(), |port| port.to_string());
    Some(match host.parse::<Ipv6Addr>() {
        Ok(ip) => format!("[{ip}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    })
}

/// Like [`instead`], for an address whose port may be missing.
pub(super) fn instead_without_port(text: &str) -> Option<String> {
    let (host, port) = host_and_port(text)?;
    Some(match (port, host.parse::<Ipv6Addr>()) {
        (Some(port), _) => host_port(&host, port),
        (None, Ok(ip)) => format!("[{ip}], or [{ip}]:{PORT} with a port"),
        (None, Err(_)) => host,
    })
}

/// The host without brackets, and the port, of an address that is written like a URL or without brackets.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    let text = text.split(['/', '?', '#']).next()?;
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host).trim();
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_owned();
    let is_host = |host: &str| host.parse::<IpAddr>().is_ok() || is_host_name(host);
    // `::1` is an address. `::1:50051` is none, because a group of an IPv6 address has at most four digits.
    if is_host(&bare(text)) {
        return Some((bare(text), None));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    is_host(&bare(host)).then(|| (bare(host), Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_an_ip_address_or_a_host_name_with_a_port() {
        for text in ["127.0.0.1:1", "[::1]:1"] {
            assert!(matches!(Address::parse(text), Some(Address::Ip(_))), "{text}");
        }
        let long = format!("{}:1", "a".repeat(63));
        for text in ["localhost:1", "catalog.default.svc:50051", "a_b.internal.:1", "1a.b:1", &long] {
            assert!(matches!(Address::parse(text), Some(Address::Name { .. })), "{text}");
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
        let longer = format!("{}:1", "a".repeat(64));
        for text in [
            "",
            ":1",
            "a",
            "a:",
            "a:0",
            "a:65536",
            "a:x",
            "a b:1",
            "-a:1",
            "a-:1",
            "a..b:1",
            ".a:1",
            "10.0.1:1",
            "256.0.0.1:1",
            "b\u{fc}cher:1",
            "http://a:1",
            "a:1/b",
            "u@a:1",
            "::1:50051",
            "[fe80::1%2]:1",
            "*.a:1",
            &longer,
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    #[test]
    fn suggestion_is_an_address() {
        for (text, expected) in [
            ("http://catalog:50051", "catalog:50051"),
            ("grpc://catalog:50051/v1?x", "catalog:50051"),
            ("https://u:p@catalog", "catalog:PORT"),
            ("catalog", "catalog:PORT"),
            ("10.0.0.7", "10.0.0.7:PORT"),
            ("::1", "[::1]:PORT"),
            ("[::1]", "[::1]:PORT"),
            ("::1:50051", "[::1]:50051"),
        ] {
            assert_eq!(instead(text).as_deref(), Some(expected), "{text}");
            assert!(Address::parse(&expected.replace(PORT, "1")).is_some(), "{expected}");
        }
        for text in ["", "a b", "http://", "catalog:70000", ":50051", "10.0.1:1"] {
            assert_eq!(instead(text), None, "{text}");
        }
        assert_eq!(instead_without_port("::1").as_deref(), Some("[::1], or [::1]:PORT with a port"));
        assert_eq!(instead_without_port("http://10.0.0.7/").as_deref(), Some("10.0.0.7"));
        assert_eq!(instead_without_port("fd00::1:50051").as_deref(), Some("[fd00::1]:50051"));
    }

    #[test]
    fn pattern_derives_an_address_for_each_service() {
        let derived = |pattern: &str, own_port| {
            Pattern::parse(pattern).unwrap().address("catalog", own_port).map(|address| address.to_string())
        };
        assert_eq!(derived("{service}.default.svc:1", Some(2)).as_deref(), Some("catalog.default.svc:1"));
        assert_eq!(derived("mesh-{service}", Some(2)).as_deref(), Some("mesh-catalog:2"));
        assert_eq!(derived("{service}", None), None);
        assert_eq!(derived("all.internal:1", None).as_deref(), Some("all.internal:1"));
        assert_eq!(Pattern::parse("{service}"), Some(Pattern::service_name()));
        for text in ["", ":1", "{servce}", "{service}:0", "{service}:x", "a b", "{service}/", "[::1]:1", "10.0.0.7"] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
    }
}
