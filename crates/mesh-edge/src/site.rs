//! What a server is called, and which pages are its own.

use std::net::{IpAddr, SocketAddr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::headers::text;

/// The names of the machine itself.
const OWN_NAMES: [&str; 1] = ["localhost"];

/// The names of a server.
#[derive(Clone, Debug)]
pub struct Site {
    listen: SocketAddr,
    /// The names beside the machine's own.
    hosts: Vec<String>,
}

impl Site {
    /// On a loopback address only the machine's own names and `hosts` are taken. Elsewhere every name is, unless
    /// `hosts` has some.
    pub fn new(listen: SocketAddr, hosts: &[String]) -> Self {
        Self { listen, hosts: hosts.to_vec() }
    }

    /// Whether a request is for a name of this server. A name of an attacker may resolve to this machine (DNS
    /// rebinding).
    pub fn is_own(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        !self.restricts() || self.knows(uri, headers)
    }

    /// Whether a page of another site makes a browser send a request.
    pub fn is_foreign(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let server = authority(uri, headers);
        let own = |origin: &str| server.as_ref().is_some_and(|server| is_of(origin, server, true));
        let origin = headers.get(ORIGIN).map(|origin| origin.to_str().is_ok_and(own));
        origin == Some(false) || text(headers, "sec-fetch-site") == Some("cross-site")
    }

    /// The port of the server.
    pub fn port(&self) -> u16 {
        self.listen.port()
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Whether not every name is taken.
    pub(crate) fn restricts(&self) -> bool {
        self.listen.ip().is_loopback() || !self.hosts.is_empty()
    }

    pub(crate) fn knows(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let authority = authority(uri, headers);
        let host = authority.as_ref().map_or("", Authority::host);
        // An address is no name, so nothing can be made to resolve to it.
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        address || OWN_NAMES.iter().any(|own| own.eq_ignore_ascii_case(host)) || {
            self.hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
        }
    }
}

/// The server's name and port as its client knows them. A name of a user is no part of them.
pub(crate) fn authority(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let authority = uri.authority().cloned().or_else(|| text(headers, HOST)?.parse().ok());
    authority.filter(|authority| !authority.as_str().contains('@'))
}

/// Whether `origin` is that of `server`. `plain`: the server may speak without TLS. A browser leaves out the port that
/// its scheme has anyway, and a proxy may name it.
pub(crate) fn is_of(origin: &str, server: &Authority, plain: bool) -> bool {
    match origin.split_once("://") {
        Some(("https", rest)) => rest == server.as_str().trim_end_matches(":443"),
        Some(("http", rest)) if plain => rest == server.as_str().trim_end_matches(":80"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn page_of_another_site_is_foreign_also_to_reads() {
        let site = Site::new("127.0.0.1:8080".parse().unwrap(), &[]);
        let foreign = |all: &[(&'static str, &str)]| {
            site.is_foreign(&Uri::from_static("/"), &headers(&[&[("host", "localhost:8080")], all].concat()))
        };
        assert!(!foreign(&[]), "curl");
        assert!(!foreign(&[("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")]));
        assert!(!foreign(&[("sec-fetch-site", "none")]), "an address that was typed");
        for other in [("origin", "http://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")] {
            assert!(foreign(&[other]), "{other:?}");
        }
    }
}
