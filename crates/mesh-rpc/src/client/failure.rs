//! The client's own errors, each with a reason.
//!
//! A peer may propagate such an error from a call of its own. The peer is not at fault then, and it has retried
//! already: its caller neither counts the error against the peer nor retries.

use std::time::Duration;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use http::{HeaderMap, Response, StatusCode};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::connections::{Cause, Unanswered};
use crate::call::error::{APP_UNREACHABLE, DOMAIN, NOT_CAUGHT_UP, STARTING, STREAM_DRAINING, status, unavailable};
pub use crate::call::peer::is_propagated;
use crate::call::peer::{LOST, NO_ENDPOINTS, UNREACHABLE, reason};

/// The delay until discovery knows other instances, or the endpoint is back.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// UNAVAILABLE, reason `NO_ENDPOINTS`: discovery knows no instance, and perhaps why. Nothing was sent: any call may be
/// retried.
pub fn no_endpoints(service: &str, why: Option<&str>) -> Status {
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    unavailable(NO_ENDPOINTS, format!("there is no instance of `{service}`{why}"), Duration::from_secs(1))
}

/// UNAVAILABLE, reason `CONNECTION_LOST`: the peer may have done the work. Only an idempotent call may be retried.
pub fn lost(cause: Cause) -> Status {
    with_cause(cause, unavailable(LOST, "the connection broke before the response was complete", RETRY_AFTER))
}

/// The status for a call without a response: `ENDPOINT_UNREACHABLE` if nothing was `sent` by any attempt, else
/// `CONNECTION_LOST`.
pub fn unanswered(service: &str, why: Unanswered, sent: bool) -> Status {
    match why {
        Unanswered::Unreachable(cause) | Unanswered::Foreign(cause) | Unanswered::Refused(cause) if !sent => {
            let message = format!("no instance of `{service}` can be reached");
            with_cause(cause, unavailable(UNREACHABLE, message, RETRY_AFTER))
        }
        Unanswered::Unreachable(cause)
        | Unanswered::Foreign(cause)
        | Unanswered::Refused(cause)
        | Unanswered::Lost(cause) => lost(cause),
    }
}

/// The status for an HTTP response without gRPC, from a proxy for example, by [gRPC's
/// mapping](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md); `None` for a gRPC response.
pub fn from_http<B>(response: &Response<B>) -> Option<Status> {
    if response.status() == StatusCode::OK || response.headers().contains_key("grpc-status") {
        return None;
    }
    let code = match response.status() {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    };
    Some(status(code, DOMAIN, "NOT_GRPC", format!("the response is not gRPC: HTTP {}", response.status())))
}

/// Whether no handler has begun the call, by the word of the process that refused it: any call may be repeated.
pub fn is_unbegun(status: &Status) -> bool {
    reason(status).is_some_and(|reason| [STARTING, APP_UNREACHABLE].contains(&&*reason))
}

/// Whether the status is no failure of the endpoint: a propagated one, the end of a stream by a drain, a copy that
/// lags, or a database that takes no writes. Other calls work, and all instances share the copy and the database.
pub fn spares_the_endpoint(status: &Status) -> bool {
    is_propagated(status)
        || reason(status).is_some_and(|reason| match &*reason {
            STREAM_DRAINING | NOT_CAUGHT_UP => true,
            "DATABASE_UNAVAILABLE" => takes_no_writes(status),
            _ => false,
        })
}

fn takes_no_writes(status: &Status) -> bool {
    let condition = status.get_details_error_info().and_then(|mut info| info.metadata.remove("condition"));
    condition.is_some_and(|condition| ["full", "read-only"].contains(&&*condition))
}

/// Removes error details that are not base64: tonic panics on them.
pub fn drop_malformed_details(headers: &mut HeaderMap) {
    let details = headers.get(Status::GRPC_STATUS_DETAILS).map(|details| details.as_bytes());
    if details.is_some_and(|details| BASE64.decode(details).is_err()) {
        headers.remove(Status::GRPC_STATUS_DETAILS);
    }
}

/// As tonic decodes details: the padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn with_cause(cause: Cause, mut status: Status) -> Status {
    status.set_source(cause);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::error::unavailable_with;
    use std::sync::Arc;

    fn cause() -> Cause {
        Arc::new(std::io::Error::other("on purpose"))
    }

    #[test]
    fn failure_is_unreachable_only_if_nothing_was_sent() {
        let reason = |why, sent| reason(&unanswered("catalog", why, sent)).unwrap();
        assert_eq!(reason(Unanswered::Unreachable(cause()), false), UNREACHABLE);
        assert_eq!(reason(Unanswered::Refused(cause()), false), UNREACHABLE);
        assert_eq!(reason(Unanswered::Unreachable(cause()), true), LOST);
        assert_eq!(reason(Unanswered::Lost(cause()), false), LOST);
    }

    #[test]
    fn failure_maps_http_codes_of_a_proxy() {
        let mapped =
            |code: u16| from_http(&Response::builder().status(code).body(()).unwrap()).map(|status| status.code());
        assert_eq!(mapped(200), None);
        assert_eq!(mapped(503), Some(Code::Unavailable));
        assert_eq!(mapped(404), Some(Code::Unimplemented));
        assert_eq!(mapped(431), Some(Code::Unknown));
        let answer = Response::builder().status(503).header("grpc-status", "5").body(()).unwrap();
        assert!(from_http(&answer).is_none());
    }

    #[test]
    fn failure_with_malformed_details_can_be_read() {
        for (details, bytes) in [("not base64", 0), ("CAU", 2), ("CAU=", 2)] {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-status", "5".parse().unwrap());
            headers.insert("grpc-status-details-bin", details.parse().unwrap());
            drop_malformed_details(&mut headers);
            let status = Status::from_header_map(&headers).unwrap();
            assert_eq!((status.code(), status.details().len()), (Code::NotFound, bytes), "{details}");
        }
    }

    #[test]
    fn failure_that_is_propagated_spares_the_endpoint() {
        assert!(is_propagated(&no_endpoints("catalog", None)) && is_propagated(&lost(cause())));
        assert!(!spares_the_endpoint(&Status::unavailable("by itself")));
        for reason in ["STREAM_DRAINING", "NOT_CAUGHT_UP"] {
            let spared = unavailable(reason, "", RETRY_AFTER);
            assert!(spares_the_endpoint(&spared) && !is_propagated(&spared), "{reason}");
        }
    }

    #[test]
    fn failure_of_a_database_that_takes_no_writes_spares_the_endpoint() {
        for (condition, spared) in [("read-only", true), ("full", true), ("away", false), ("busy", false)] {
            let metadata = [("condition", condition.to_owned())];
            let status = unavailable_with("DATABASE_UNAVAILABLE", "", RETRY_AFTER, metadata);
            assert_eq!(spares_the_endpoint(&status), spared, "{condition}");
        }
    }
}
