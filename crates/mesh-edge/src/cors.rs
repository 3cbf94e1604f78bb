//! Cross-origin resource sharing ([Fetch](https://fetch.spec.whatwg.org/#http-cors-protocol)): the origins of
//! `edge.cors_origins` may read answers.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use tonic::body::Body;

use crate::guard::Guard;
use crate::headers::text;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE");
/// What a client may send beside what Fetch always allows.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, grpc-timeout, x-grpc-web, x-user-agent, idempotency-key, if-match, if-none-match, last-event-id, \
     traceparent, tracestate, mesh-consistency",
);
/// What a page may read beside what Fetch always shows.
const READ: HeaderValue = HeaderValue::from_static(
    "etag, retry-after, ratelimit, ratelimit-policy, mesh-consistency, www-authenticate, grpc-status, grpc-message, \
     grpc-status-details-bin",
);
/// As long as browsers keep it.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The answer to a preflight; `None` for another request.
pub(crate) fn preflight(head: &Parts) -> Option<Response<Body>> {
    let asks = head.headers.contains_key(ORIGIN) && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    (head.method == Method::OPTIONS && asks).then(|| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        response
    })
}

/// Lets a page read the answer, if its origin is listed.
pub(crate) fn share(guard: &Guard, origin: Option<&HeaderValue>, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    // A cache may have the answer from a request without an origin.
    if origin.is_some() || guard.shares() {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    let Some(origin) = origin else { return };
    if origin.to_str().is_ok_and(|origin| guard.lists(origin)) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    }
}

/// The origin of a request's page, if it has one.
pub(crate) fn origin(head: &Parts) -> Option<HeaderValue> {
    text(&head.headers, ORIGIN)?;
    head.headers.get(ORIGIN).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn guard() -> Guard {
        Guard::new("127.0.0.1:1".parse().unwrap(), false, &[], &["https://shop.example".to_owned()])
    }

    #[test]
    fn listed_origins_may_read_answers() {
        for (origin, shared) in [("https://shop.example", true), ("https://evil.example", false), ("null", false)] {
            let mut response = Response::new(Body::empty());
            share(&guard(), Some(&HeaderValue::from_static(origin)), &mut response);
            assert_eq!(response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), shared, "{origin}");
            assert_eq!(response.headers()[VARY], "origin");
        }
        let mut response = Response::new(Body::empty());
        share(&guard(), None, &mut response);
        assert_eq!(response.headers()[VARY], "origin", "a cache keeps it for requests with an origin");
    }

    #[test]
    fn preflight_is_told_from_other_requests() {
        let head = |method: &str, header: &str| {
            let request =
                Request::builder().method(method).header("origin", "https://shop.example").header(header, "POST");
            request.body(()).unwrap().into_parts().0
        };
        assert!(preflight(&head("OPTIONS", "access-control-request-method")).is_some());
        assert!(preflight(&head("OPTIONS", "x-other")).is_none());
        assert!(preflight(&head("POST", "access-control-request-method")).is_none());
    }
}
