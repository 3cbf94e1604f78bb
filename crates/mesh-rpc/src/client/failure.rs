//! How a call to a peer fails on its way, each with a reason of its own.
//!
//! A peer may pass on such a failure of a call that it made itself. Then it is not the peer's fault, and the peer has
//! tried again what may be tried again: whoever called it does neither blame nor repeat.

use std::time::Duration;

use http::{Response, StatusCode};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::connections::{Cause, Unanswered};
use crate::call::error::{DOMAIN, status, unavailable};

const NO_ENDPOINTS: &str = "NO_ENDPOINTS";
const UNREACHABLE: &str = "ENDPOINT_UNREACHABLE";
const LOST: &str = "CONNECTION_LOST";

/// By then other instances have been found, or this one is back.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// UNAVAILABLE, reason `NO_ENDPOINTS`: the service is nowhere to be found, and nothing was sent.
pub fn no_endpoints(service: &str) -> Status {
    unavailable(NO_ENDPOINTS, format!("there is no instance of `{service}`"), Duration::from_secs(1))
}

/// UNAVAILABLE, reason `CONNECTION_LOST`: whether the work was done is not known.
pub fn lost(cause: Cause) -> Status {
    because(cause, unavailable(LOST, "the connection broke before the answer was there", RETRY_AFTER))
}

/// The same, or UNAVAILABLE with reason `ENDPOINT_UNREACHABLE` if nothing was ever `sent`.
pub fn unanswered(service: &str, why: Unanswered, sent: bool) -> Status {
    match why {
        Unanswered::Unreachable(cause) | Unanswered::Refused(cause) if !sent => {
            let message = format!("no instance of `{service}` can be reached");
            because(cause, unavailable(UNREACHABLE, message, RETRY_AFTER))
        }
        Unanswered::Unreachable(cause) | Unanswered::Refused(cause) | Unanswered::Lost(cause) => lost(cause),
    }
}

/// What something on the way says that speaks HTTP and no gRPC, a proxy for one, in
/// [gRPC's words](https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md); `None` of an answer of gRPC.
pub fn not_grpc<B>(response: &Response<B>) -> Option<Status> {
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
    Some(status(code, DOMAIN, "NOT_GRPC", format!("the answer was no gRPC: HTTP {}", response.status())))
}

/// Whether this failure is that of a call which the peer made itself.
pub fn is_passed_on(status: &Status) -> bool {
    reason(status).is_some_and(|reason| [NO_ENDPOINTS, UNREACHABLE, LOST].contains(&&*reason))
}

/// Whether the peer has done nothing wrong by it: it passes it on, or it ends a stream politely.
pub fn is_blameless(status: &Status) -> bool {
    is_passed_on(status) || reason(status).is_some_and(|reason| reason == "STREAM_DRAINING")
}

fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
    info.filter(|_| status.code() == Code::Unavailable).map(|info| info.reason)
}

fn because(cause: Cause, mut status: Status) -> Status {
    status.set_source(cause);
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn why() -> Cause {
        Arc::new(std::io::Error::other("on purpose"))
    }

    #[test]
    fn nothing_was_sent_is_said_only_if_nothing_was() {
        let reason = |why, sent| reason(&unanswered("catalog", why, sent)).unwrap();
        assert_eq!(reason(Unanswered::Unreachable(why()), false), UNREACHABLE);
        assert_eq!(reason(Unanswered::Refused(why()), false), UNREACHABLE);
        assert_eq!(reason(Unanswered::Unreachable(why()), true), LOST);
        assert_eq!(reason(Unanswered::Lost(why()), false), LOST);
    }

    #[test]
    fn what_a_proxy_says_is_said_in_the_words_of_grpc() {
        let said = |code: u16| not_grpc(&Response::builder().status(code).body(()).unwrap()).map(|said| said.code());
        assert_eq!(said(200), None);
        assert_eq!(said(503), Some(Code::Unavailable));
        assert_eq!(said(404), Some(Code::Unimplemented));
        assert_eq!(said(431), Some(Code::Unknown));
        let answer = Response::builder().status(503).header("grpc-status", "5").body(()).unwrap();
        assert!(not_grpc(&answer).is_none());
    }

    #[test]
    fn what_a_peer_passes_on_is_told_from_what_it_is_to_blame_for() {
        assert!(is_passed_on(&no_endpoints("catalog")) && is_passed_on(&lost(why())));
        assert!(!is_blameless(&Status::unavailable("by itself")));
        let draining = unavailable("STREAM_DRAINING", "", RETRY_AFTER);
        assert!(is_blameless(&draining) && !is_passed_on(&draining));
    }
}
