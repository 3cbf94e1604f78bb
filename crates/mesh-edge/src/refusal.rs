//! The one error body of the edge: `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)),
//! which also carries the members of `google.rpc.Status`.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, IF_MATCH, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use mesh_rpc::call::Violations;
use mesh_rpc::call::error::{DOMAIN, exhausted, invalid_fields, status};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use transcode::{BadRequest, Binding, Schema};

use crate::given::with_headers;

/// The reason of a refusal to open a WebSocket.
pub(crate) const MALFORMED_HANDSHAKE: &str = "MALFORMED_HANDSHAKE";

/// The reason of a write to a revision that is no longer the resource's.
pub(crate) const STALE_REVISION: &str = "STALE_REVISION";

/// The HTTP status of a failure. That of some reasons does not follow from the code.
pub(crate) fn http_status(code: i32, reason: &str) -> u16 {
    match reason {
        "MESSAGE_TOO_LARGE" => 413,
        "HEADERS_TOO_LARGE" => 431,
        "REQUEST_TOO_SLOW" => 408,
        _ => transcode::http_status(code),
    }
}

/// What a client needs that is refused for its token ([RFC 6750](https://www.rfc-editor.org/rfc/rfc6750#section-3)).
/// `scope` is the one that the token lacks.
fn challenge(http: StatusCode, reason: &str, scope: Option<&str>) -> Option<HeaderValue> {
    let challenge = match (http, reason) {
        (StatusCode::UNAUTHORIZED, "TOKEN_INVALID" | "TOKEN_EXPIRED") => "Bearer error=\"invalid_token\"".to_owned(),
        (StatusCode::UNAUTHORIZED, _) => "Bearer".to_owned(),
        (StatusCode::FORBIDDEN, "SCOPE_MISSING") => {
            let scope = scope.map(|scope| format!(", scope=\"{scope}\"")).unwrap_or_default();
            format!("Bearer error=\"insufficient_scope\"{scope}")
        }
        _ => return None,
    };
    HeaderValue::try_from(challenge).ok()
}

/// A request that is not answered with a message.
pub(crate) struct Refusal {
    pub(crate) http: StatusCode,
    pub(crate) status: Box<Status>,
    /// The reason, if the edge itself refuses.
    pub(crate) own: Option<&'static str>,
    /// The methods for the header `Allow`, of a 405.
    allow: Option<String>,
}

impl Refusal {
    /// A refusal of the edge itself, with a reason of the domain `mesh`.
    pub(crate) fn new(http: StatusCode, code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self { http, status: Box::new(status(code, DOMAIN, reason, message)), own: Some(reason), allow: None }
    }

    /// The refusal of a method that the path does not have.
    pub(crate) fn method_not_allowed(allow: &[String]) -> Self {
        // A HEAD is answered as a GET.
        let head = allow.iter().any(|method| method == "GET").then(|| "HEAD".to_owned());
        let allow = allow.iter().cloned().chain(head).collect::<Vec<_>>().join(", ");
        let message = format!("this path takes {allow}");
        let mut refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "METHOD_NOT_ALLOWED", message);
        refusal.allow = Some(allow);
        refusal
    }

    /// A failure of the call that a request with these headers has made.
    pub(crate) fn of_call(status: Status, binding: &Binding, headers: &HeaderMap) -> Self {
        let refusal = Self::from(with_headers(binding, status));
        // What `If-Match` asks for has a status of its own.
        let stale = refusal.reason() == STALE_REVISION && headers.contains_key(IF_MATCH);
        if stale { Self { http: StatusCode::PRECONDITION_FAILED, ..refusal } } else { refusal }
    }

    fn reason(&self) -> String {
        self.status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
    }

    /// A refusal of the edge itself, whose status has this reason.
    pub(crate) fn own(reason: &'static str, status: Status) -> Self {
        Self { own: Some(reason), ..status.into() }
    }

    /// 429: the client may retry after `delay`.
    pub(crate) fn exhausted(reason: &'static str, message: impl Into<String>, delay: Duration) -> Self {
        Self::own(reason, exhausted(reason, message, delay))
    }

    /// The answer to the client.
    pub(crate) fn response(&self, schema: &Schema) -> Response<Body> {
        let details = self.status.get_error_details();
        let (code, message) = (self.status.code() as i32, self.status.message());
        let body = transcode::problem(schema, self.http.as_u16(), code, message, self.status.details());
        let mut response = Response::new(Body::new(Full::new(Bytes::from(body))));
        *response.status_mut() = self.http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
            // In whole seconds: a client that waits less is refused again.
            headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_millis().div_ceil(1000) as u64));
        }
        let info = details.error_info();
        let scope = info.and_then(|info| info.metadata.get("scope")).map(String::as_str);
        let reason = info.map(|info| info.reason.as_str()).unwrap_or_default();
        headers.extend(challenge(self.http, reason, scope).map(|challenge| (WWW_AUTHENTICATE, challenge)));
        // What a client has to speak instead: RFC 9110 and RFC 6455 have it in these headers.
        if self.http == StatusCode::UPGRADE_REQUIRED {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        if self.own == Some(MALFORMED_HANDSHAKE) {
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Some(allow) = self.allow.as_deref().and_then(|allow| HeaderValue::from_str(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        response
    }
}

/// A failure of the call.
impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let mut refusal =
            Self { http: StatusCode::INTERNAL_SERVER_ERROR, status: Box::new(status), own: None, allow: None };
        let http = http_status(refusal.status.code() as i32, &refusal.reason());
        refusal.http = http.try_into().unwrap_or(refusal.http);
        refusal
    }
}

/// A request with mistakes, all of them.
impl From<BadRequest> for Refusal {
    fn from(bad: BadRequest) -> Self {
        let mut violations = Violations::default();
        for violation in bad.violations {
            violations.check(false, &violation.field, violation.description);
        }
        Self::own("INVALID_FIELDS", invalid_fields(DOMAIN, violations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_rpc::call::error::status_with;

    #[test]
    fn refusal_for_a_token_says_what_is_needed() {
        let schema = Schema::new(&prost_reflect::DescriptorPool::new());
        for (code, reason, http, challenge) in [
            (Code::Unauthenticated, "TOKEN_MISSING", 401, Some("Bearer")),
            (Code::Unauthenticated, "TOKEN_INVALID", 401, Some("Bearer error=\"invalid_token\"")),
            (Code::Unauthenticated, "TOKEN_EXPIRED", 401, Some("Bearer error=\"invalid_token\"")),
            (Code::PermissionDenied, "SCOPE_MISSING", 403, Some("Bearer error=\"insufficient_scope\"")),
            (Code::PermissionDenied, "CALLER_NOT_ALLOWED", 403, None),
            (Code::Unavailable, "ISSUER_UNAVAILABLE", 503, None),
        ] {
            let response = Refusal::from(status(code, DOMAIN, reason, "refused")).response(&schema);
            let sent = response.headers().get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap());
            assert_eq!((response.status().as_u16(), sent), (http, challenge), "{reason}");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        }
        let lacking = [("scope", "catalog.write".to_owned())];
        let lacking = status_with(Code::PermissionDenied, DOMAIN, "SCOPE_MISSING", "refused", lacking);
        let lacking = Refusal::from(lacking).response(&schema);
        let sent = "Bearer error=\"insufficient_scope\", scope=\"catalog.write\"";
        assert_eq!(lacking.headers()[WWW_AUTHENTICATE], sent);
        let of_a_service = Refusal::from(Status::unauthenticated("who is there")).response(&schema);
        assert_eq!(of_a_service.headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
