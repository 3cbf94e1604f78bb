//! The headers that go on to the app, to peers, and back.
//!
//! Guarantees:
//! - What a caller or an app writes under the names of the mesh does not go on: the sidecar alone writes them.
//! - Headers of one connection, and those that `Connection` names, do not go on
//!   ([RFC 9110, 7.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1)).

use http::HeaderMap;
use http::header::{
    CONNECTION, COOKIE, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use mesh_rpc::call::compression::GRPC_ACCEPT_ENCODING;
use mesh_rpc::call::{Context, strip_reserved, write_timeout, write_trace_state};

/// Who calls, for the app: `user/ISSUER/SUBJECT`, `service/NAME` or `anonymous`.
const CALLER: HeaderName = HeaderName::from_static("mesh-caller");

/// Headers of one connection, beside those that `Connection` names.
const OF_A_CONNECTION: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Removes the headers of one connection.
pub(crate) fn end_to_end(headers: &mut HeaderMap) {
    let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let named: Vec<_> = named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    for name in named.into_iter().chain(OF_A_CONNECTION) {
        let _: Option<HeaderValue> = headers.remove::<HeaderName>(name);
    }
}

/// Removes what only a sidecar may say, from what an app answers.
pub(crate) fn of_an_app(headers: &mut HeaderMap) {
    strip_reserved(headers);
    headers.remove(mesh_rpc::call::MESH_CONSISTENCY);
}

/// Writes what an app may know of a call: who makes it, how long the caller waits, its place in the trace and its
/// cause. `passport` vouches for the caller, where the app calls others for it.
pub(crate) fn for_an_app(headers: &mut HeaderMap, context: &Context, passport: Option<HeaderValue>) {
    strip_reserved(headers);
    // The sidecar compresses for the network.
    headers.remove(GRPC_ACCEPT_ENCODING);
    // The name of a user may have characters beyond ASCII.
    if let Ok(name) = HeaderValue::from_bytes(context.caller.name().as_bytes()) {
        headers.insert(CALLER, name);
    }
    if let Some(passport) = passport {
        headers.insert(mesh_rpc::auth::passports::HEADER, passport);
    }
    context.trace.write(headers);
    write_trace_state(headers, context.trace_state.as_ref());
    if let Some(left) = context.remaining() {
        write_timeout(headers, left);
    }
    if let Some(cause) = &context.cause {
        cause.write(headers);
    }
}

/// Makes the headers of a request of HTTP/2 those of one of HTTP/1.1 to `host`.
pub(crate) fn for_http1(headers: &mut HeaderMap, host: HeaderValue) {
    end_to_end(headers);
    headers.insert(HOST, host);
    // HTTP/2 may split them (RFC 9113, 8.2.3).
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(all) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(COOKIE, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_rpc::call::Caller;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn headers_of_a_connection_do_not_go_on() {
        let mut all = headers(&[
            ("connection", "close, X-One"),
            ("connection", "x-two"),
            ("keep-alive", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ]);
        end_to_end(&mut all);
        assert_eq!(names(&all), ["x-three"]);
    }

    #[test]
    fn app_learns_of_the_caller_from_the_sidecar_alone() {
        let mut all = headers(&[
            ("mesh-caller", "user/forged"),
            ("mesh_caller", "user/forged"),
            ("mesh-passport", "forged"),
            ("mesh-cause", "forged"),
            ("x-mesh-user", "forged"),
            ("grpc-accept-encoding", "gzip"),
            ("x-other", "1"),
        ]);
        let context = Context { caller: Caller::service("tv"), ..Context::default() };
        for_an_app(&mut all, &context, None);
        assert_eq!(names(&all), ["mesh-caller", "traceparent", "x-other"]);
        assert_eq!(all["mesh-caller"], "service/tv");

        // `Connection` cannot name them away: it is read before they are written.
        let mut all = headers(&[("connection", "mesh-caller")]);
        for_http1(&mut all, HeaderValue::from_static("ratings"));
        for_an_app(&mut all, &context, Some(HeaderValue::from_static("signed")));
        assert_eq!(names(&all), ["host", "mesh-caller", "mesh-passport", "traceparent"]);
    }

    #[test]
    fn cookies_of_http_2_are_one_header() {
        let mut all = headers(&[("cookie", "a=1"), ("cookie", "b=2"), ("host", "other")]);
        for_http1(&mut all, HeaderValue::from_static("ratings"));
        assert_eq!((all["cookie"].as_bytes(), &all["host"]), (&b"a=1; b=2"[..], &HeaderValue::from_static("ratings")));
        assert_eq!(all.len(), 2);
    }
}
