//! Refuses requests whose head is ambiguous, or asks for what no listener does. A proxy before the process may read
//! such a head in another way.
//!
//! Guarantees:
//! - A request has one host: that of its address and that of `Host` are the same, without a name of a user.
//! - TRACE and CONNECT, and transfer codings other than `chunked`, are refused. `Upgrade: h2c` is ignored, as RFC 9113
//!   allows: Java's client sends it with each first request.
//!
//! Does not: refuse what hyper refuses before, such as lengths that differ. A body with a length and chunks is read by
//! its chunks, and its connection is closed behind it ([RFC 9112,
//! 6.3](https://www.rfc-editor.org/rfc/rfc9112#section-6.3)); hyper does so.

use http::header::{ALLOW, HOST, HeaderValue, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode, Version};
use tonic::body::Body;

use super::admin;

/// The answer to a request whose head is refused; `None`: it may be answered.
pub(super) fn refuse<B>(request: &Request<B>) -> Option<Response<Body>> {
    let (status, why) = wrong(request)?;
    let mut response = admin::refusal(status, why);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        response.headers_mut().insert(ALLOW, allowed);
    }
    Some(response)
}

fn wrong<B>(request: &Request<B>) -> Option<(StatusCode, &'static str)> {
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Some((StatusCode::METHOD_NOT_ALLOWED, "TRACE and CONNECT are not served"));
    }
    let bad = |why| Some((StatusCode::BAD_REQUEST, why));
    let mut codings = request.headers().get_all(TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return bad("the only transfer coding is chunked");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    if another.is_some() {
        return bad("a request has the header host once");
    }
    let host = match host.map(|host| host.to_str().ok().and_then(|host| host.parse::<Authority>().ok())) {
        Some(None) => return bad("the header host is a name or an address, and perhaps a port"),
        Some(Some(host)) => Some(host),
        None => None,
    };
    let target = request.uri().authority();
    if [target, host.as_ref()].into_iter().flatten().any(|authority| authority.as_str().contains('@')) {
        return bad("a host has no name of a user");
    }
    match (target, &host) {
        (Some(target), Some(host)) if !is_same(target, host) => {
            bad("the header host differs from the address of the request")
        }
        (Some(_), None) if request.version() == Version::HTTP_11 => bad("a request has the header host"),
        // Probes of balancers speak HTTP/1.0, without a host.
        (None, None) if request.version() != Version::HTTP_10 => bad("a request names its host"),
        _ => None,
    }
}

/// The port that a scheme has anyway may be left out.
fn is_same(one: &Authority, other: &Authority) -> bool {
    let port = |authority: &Authority| authority.port_u16().filter(|port| !matches!(port, 80 | 443));
    one.host().eq_ignore_ascii_case(other.host()) && port(one) == port(other)
}
