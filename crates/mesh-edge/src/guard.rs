//! Refuses requests that a page of another site makes its reader's browser send.
//!
//! Two kinds: a name of the attacker's that resolves to this machine (DNS rebinding), noticed by the header `Host`; and
//! a form or script that writes from a foreign origin, noticed by `Origin` and `Sec-Fetch-Site`.

use std::net::SocketAddr;

use http::header::{AUTHORIZATION, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use tonic::Code;

use crate::headers::{repeated, text};
use crate::refusal::Refusal;
use crate::site::{Site, authority, is_of};

/// The longest name of DNS, in bytes.
const MAX_NAME: usize = 253;

/// What this process is called, and which origins may write.
pub(crate) struct Guard {
    site: Site,
    origins: Vec<String>,
    /// Whether this process speaks TLS, so that its own pages have `https` origins alone.
    tls: bool,
}

impl Guard {
    /// The guard of the edge at `listen`.
    pub(crate) fn new(listen: SocketAddr, tls: bool, hosts: &[String], origins: &[String]) -> Self {
        Self { site: Site::new(listen, hosts), origins: origins.to_vec(), tls }
    }

    /// # Errors
    ///
    /// 400: a header is there twice. 421: the host is not one of this process. 403: another site made the browser send
    /// a write.
    pub(crate) fn check(&self, head: &Parts) -> Result<(), Refusal> {
        if let Some(name) = repeated(&head.headers) {
            return Err(twice(name));
        }
        self.check_host(&head.uri, &head.headers)?;
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        match head.headers.get(ORIGIN) {
            Some(origin) if self.allows(origin, authority(&head.uri, &head.headers).as_ref()) => Ok(()),
            // A page that hides its origin is foreign, too.
            Some(_) => Err(foreign()),
            None if text(&head.headers, "sec-fetch-site") == Some("cross-site") => Err(foreign()),
            // No browser sends this.
            None => Ok(()),
        }
    }

    /// Checks the name by which a client knows this server.
    ///
    /// # Errors
    ///
    /// 421: it is not one of this process.
    pub(crate) fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.site.restricts() { self.check_name(uri, headers) } else { Ok(()) }
    }

    /// Checks the name by which a client knows the admin pages at `listen`. `edge.hosts` names the edge: on another
    /// listener that others can reach, every name is taken.
    ///
    /// # Errors
    ///
    /// 421: it is not one of this process.
    pub(crate) fn check_page(&self, listen: SocketAddr, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        match listen {
            listen if listen == self.site.listen() => self.check_host(uri, headers),
            listen if listen.ip().is_loopback() => self.check_name(uri, headers),
            _ => Ok(()),
        }
    }

    fn check_name(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if !self.site.knows(uri, headers) {
            let authority = authority(uri, headers);
            let host = authority.as_ref().map_or("", Authority::host);
            let shown: String = host.chars().take(MAX_NAME).collect();
            let message = format!("this server is not called {shown:?}: edge.hosts lists its names");
            return Err(Refusal::new(
                StatusCode::MISDIRECTED_REQUEST,
                Code::PermissionDenied,
                "HOST_NOT_ALLOWED",
                message,
            ));
        }
        Ok(())
    }

    /// Checks the origin of a page that opens a socket: nothing else keeps it from reading.
    ///
    /// # Errors
    ///
    /// 403: the page is foreign.
    pub(crate) fn check_socket(&self, head: &Parts) -> Result<(), Refusal> {
        let origin = head.headers.get(ORIGIN);
        let allowed = origin.is_none_or(|origin| self.allows(origin, authority(&head.uri, &head.headers).as_ref()));
        if allowed { Ok(()) } else { Err(foreign()) }
    }

    /// Whether a page of `origin` may write and read: its origin is this server's, or one of `edge.cors_origins`.
    fn allows(&self, origin: &HeaderValue, server: Option<&Authority>) -> bool {
        let Ok(origin) = origin.to_str() else { return false };
        server.is_some_and(|server| is_of(origin, server, !self.tls)) || self.lists(origin)
    }

    /// Whether there are origins whose pages may read answers.
    pub(crate) fn shares(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Whether `origin` is one of `edge.cors_origins`.
    pub(crate) fn lists(&self, origin: &str) -> bool {
        self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin))
    }
}

/// Checks that a gRPC call has one token at most.
///
/// # Errors
///
/// 400: it has two.
pub(crate) fn check_token(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.get_all(AUTHORIZATION).iter().nth(1) {
        Some(_) => Err(twice(AUTHORIZATION.as_str())),
        None => Ok(()),
    }
}

fn twice(name: &str) -> Refusal {
    let message = format!("a request has the header {name} once");
    Refusal::new(StatusCode::BAD_REQUEST, Code::InvalidArgument, "REPEATED_HEADER", message)
}

fn foreign() -> Refusal {
    let message = "a page of another origin may not write: edge.cors_origins lists those that may";
    Refusal::new(StatusCode::FORBIDDEN, Code::PermissionDenied, "ORIGIN_NOT_ALLOWED", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use http::header::HOST;

    fn check(listen: &str, hosts: &[&str], method: &str, headers: &[(&str, &str)]) -> u16 {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let guard = Guard::new(listen.parse().unwrap(), false, &hosts, &["https://shop.example".to_owned()]);
        let request = headers
            .iter()
            .fold(Request::builder().method(method), |request, (name, value)| request.header(*name, *value));
        let (head, ()) = request.uri("/v1/titles").body(()).unwrap().into_parts();
        guard.check(&head).err().map_or(200, |refusal| refusal.http.as_u16())
    }

    const HERE: (&str, &str) = ("host", "localhost:8080");

    #[test]
    fn foreign_names_are_refused_on_loopback() {
        let get = |host| check("127.0.0.1:8080", &["shop.internal"], "GET", &[("host", host)]);
        for own in ["localhost:8080", "LOCALHOST", "127.0.0.1:8080", "[::1]:8080", "shop.internal"] {
            assert_eq!(get(own), 200, "{own}");
        }
        for foreign in ["rebound.example:8080", "localhost.example", "", "a b", "rebound.example@localhost"] {
            assert_eq!(get(foreign), 421, "{foreign}");
        }
        let two = [("host", "localhost"), ("host", "rebound.example")];
        assert_eq!(check("127.0.0.1:8080", &[], "GET", &two), 400, "a proxy may have checked the other one");
        assert_eq!(check("127.0.0.1:8080", &[], "GET", &[]), 421, "no name at all");
        assert_eq!(check("10.0.0.7:8080", &[], "GET", &[("host", "shop.example")]), 200);
        assert_eq!(check("10.0.0.7:8080", &["other"], "GET", &[("host", "shop.example")]), 421);
    }

    #[test]
    fn admin_pages_are_guarded_on_each_listener() {
        let guard = Guard::new("10.0.0.7:8443".parse().unwrap(), true, &["shop.example".to_owned()], &[]);
        let check = |listen: &str, host: &'static str| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            guard.check_page(listen.parse().unwrap(), &Uri::from_static("/readyz"), &headers).is_ok()
        };
        assert!(check("127.0.0.1:8080", "localhost:8080") && check("127.0.0.1:8080", "shop.example"));
        assert!(!check("127.0.0.1:8080", "rebound.example"), "a listener on loopback beside the edge's");
        assert!(check("10.0.0.7:8080", "catalog.internal:8080"), "a probe");
        assert!(check("10.0.0.7:8443", "shop.example") && !check("10.0.0.7:8443", "catalog.internal"));
    }

    #[test]
    fn pages_without_tls_are_foreign_to_a_server_with_tls() {
        let allows = |tls, origin: &'static str| {
            let guard = Guard::new("127.0.0.1:8443".parse().unwrap(), tls, &[], &[]);
            guard.allows(&HeaderValue::from_static(origin), Some(&Authority::from_static("localhost:8443")))
        };
        assert!(allows(true, "https://localhost:8443") && !allows(true, "http://localhost:8443"));
        assert!(allows(false, "https://localhost:8443"), "a proxy terminates TLS");
    }

    #[test]
    fn foreign_pages_may_not_write() {
        let post = |header: &[(&str, &str)]| check("127.0.0.1:8080", &[], "POST", &[&[HERE], header].concat());
        assert_eq!(post(&[]), 200, "curl");
        assert_eq!(post(&[("origin", "http://localhost:8080")]), 200, "its own page");
        assert_eq!(post(&[("origin", "https://shop.example")]), 200, "a listed one");
        for foreign in
            ["https://evil.example", "null", "http://localhost:3000", "http://localhost:8080.evil.example", "é"]
        {
            assert_eq!(post(&[("origin", foreign)]), 403, "{foreign}");
        }
        assert_eq!(post(&[("sec-fetch-site", "cross-site")]), 403);
        let get = check("127.0.0.1:8080", &[], "GET", &[HERE, ("origin", "https://evil.example")]);
        assert_eq!(get, 200, "it cannot read the answer");
    }
}
