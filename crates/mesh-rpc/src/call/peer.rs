//! Failures of peers, and what they become for a caller of this service.
//!
//! A code is about the request that it answers. NOT_FOUND of a peer is about the request of this service to the peer,
//! and says nothing about the request that this service answers.
//!
//! Guarantees:
//! - The channel marks every failure of a call to a peer. Service code reads its code as ever.
//! - A failure that a service returns still marked is replaced: code and reason are those of the table in
//!   docs/CONTRACTS.md, the message names the peer's method, and the peer's status is the cause for the log. A delay
//!   before a retry, or the word that there must be none, remains.
//! - A peer cannot set the mark, and the mark does not reach a caller of this service.
//!
//! See: decision 0027.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::body::{failure_of, trailers};
use super::context::Context;
use super::error::{self, DOMAIN, exceeded, is_unreadable};
use super::pushback::Pushback;

/// The reason if discovery knows no instance of a peer.
pub const NO_ENDPOINTS: &str = "NO_ENDPOINTS";
/// The reason if no instance of a peer accepts a connection.
pub const UNREACHABLE: &str = "ENDPOINT_UNREACHABLE";
/// The reason if a connection to a peer broke.
pub const LOST: &str = "CONNECTION_LOST";
/// The reason if the token of the call's user has expired.
pub const TOKEN_EXPIRED: &str = "TOKEN_EXPIRED";
/// The reason if the token of the call's user lacks a scope.
pub const SCOPE_MISSING: &str = "SCOPE_MISSING";
/// The reason if a peer cannot answer now.
const UNAVAILABLE: &str = "PEER_UNAVAILABLE";
/// The reason if a peer failed or refused the call, or its answer cannot be read.
const FAILED: &str = "PEER_FAILED";

/// The header of the mark. Its value is the peer's method. tonic's client makes it metadata of the status.
const MARK: &str = "mesh-peer";

/// Marks the failure of a call to the method at `path`: in the head, in the trailers, or in the error of the body.
pub fn mark<B>(mut response: Response<B>, path: PathAndQuery, context: &Context) -> Response<Marked<B>> {
    // In memory, the extension is the peer's status with its cause.
    response.extensions_mut().remove::<Status>();
    if response.headers().contains_key(Status::GRPC_STATUS) {
        mark_headers(response.headers_mut(), &path);
    } else {
        context.answers.record(path.clone());
    }
    response.map(|body| Marked { body, path })
}

/// A body whose failure is marked.
pub struct Marked<B> {
    body: B,
    path: PathAndQuery,
}

impl<B: http_body::Body<Data = Bytes, Error = Status> + Unpin> http_body::Body for Marked<B> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, path } = &mut *self;
        let mut polled = Pin::new(body).poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    mark_headers(trailers, path);
                }
            }
            Poll::Ready(Some(Err(status))) => {
                if let Ok(method) = MetadataValue::try_from(method(path)) {
                    status.metadata_mut().insert(MARK, method);
                }
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn mark_headers(headers: &mut HeaderMap, path: &PathAndQuery) {
    headers.remove(MARK);
    let failed = headers.get(Status::GRPC_STATUS).is_some_and(|code| code != "0");
    if failed && let Ok(method) = HeaderValue::try_from(method(path)) {
        headers.insert(MARK, method);
    }
}

fn method(path: &PathAndQuery) -> &str {
    path.path().trim_start_matches('/')
}

/// Whether the status is one of a peer, unchanged.
pub fn is_marked(status: &Status) -> bool {
    status.metadata().contains_key(MARK)
}

/// Makes the failure of a peer one of the service, as it is: with its code, message, details and pushback. For a
/// failure that the contract of the service promises. The caller of the service sees the text of the peer.
pub fn pass_on(status: Status) -> Status {
    let mut own = Status::with_details(status.code(), status.message(), status.details().to_vec().into());
    Pushback::of_status(&status).write(&mut own);
    own
}

/// The answer of a peer for a caller whose call this process passes on: the peer's failure as it is, and the channel's
/// own without the names of hosts.
pub fn passed_on(response: Response<Body>) -> Response<Body> {
    match failure_of(response.headers()) {
        Some(status) => own_or_passed_on(status).into_http(),
        None => response.map(|body| Body::new(PassedOn { body })),
    }
}

fn own_or_passed_on(status: Status) -> Status {
    let by_the_channel = reason(&status).is_some_and(|reason| [NO_ENDPOINTS, UNREACHABLE, LOST].contains(&&*reason));
    if by_the_channel { own(status) } else { pass_on(status) }
}

/// A body whose failure is passed on.
struct PassedOn {
    body: Body,
}

impl http_body::Body for PassedOn {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(polled.map(|frame| match frame {
            Ok(frame) => Ok(match frame.trailers_ref().and_then(failure_of) {
                Some(status) => Frame::trailers(trailers(&own_or_passed_on(status))),
                None => frame,
            }),
            Err(status) => Err(own_or_passed_on(status)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The status as one of this service: that of a peer by the table, any other unchanged.
pub fn own(status: Status) -> Status {
    let Some(method) = status.metadata().get(MARK) else { return status };
    let method = method.to_str().unwrap_or("a peer").to_owned();
    let (code, retry) = (status.code(), Retry::of(&status));
    // The channel wrote the first three, here or at the peer. Their texts name hosts.
    let (reason, text) = match (code, reason(&status).as_deref()) {
        (_, Some(NO_ENDPOINTS)) => (NO_ENDPOINTS, "finds no instance of a service that it needs"),
        (_, Some(UNREACHABLE)) => (UNREACHABLE, "reaches no instance of a service that it needs"),
        (_, Some(LOST)) => (LOST, "lost a connection before an answer was complete"),
        (Code::Unavailable | Code::Aborted, _) => (UNAVAILABLE, "cannot be answered now"),
        (Code::ResourceExhausted, _) if retry.delay.is_some() => (UNAVAILABLE, "cannot be answered now"),
        (Code::DeadlineExceeded, _) => return exceeded(),
        // The call was made for the user of this one, who alone can do something about it.
        (Code::Unauthenticated, Some(TOKEN_EXPIRED)) | (Code::PermissionDenied, Some(SCOPE_MISSING)) => {
            return pass_on(status);
        }
        _ => return failed(&method, status),
    };
    retry.unavailable(reason, format!("a call of {method} {text}; the log of its caller has the cause"), status)
}

/// What a peer says about a retry.
struct Retry {
    /// The longer one of its `RetryInfo` and its pushback.
    delay: Option<Duration>,
    pushback: Pushback,
}

impl Retry {
    fn of(status: &Status) -> Self {
        let info = status.get_details_retry_info().and_then(|info| info.retry_delay);
        match Pushback::of_status(status) {
            Pushback::After(delay) => Self::after(info.unwrap_or_default().max(delay)),
            Pushback::Unspecified => info.map_or(Self { delay: None, pushback: Pushback::Unspecified }, Self::after),
            Pushback::Never => Self { delay: None, pushback: Pushback::Never },
        }
    }

    fn after(delay: Duration) -> Self {
        Self { delay: Some(delay), pushback: Pushback::After(delay) }
    }

    /// UNAVAILABLE. The caller may retry as the peer says.
    fn unavailable(self, reason: &str, message: String, cause: Status) -> Status {
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
        if self.delay.is_some() {
            details.set_retry_info(self.delay);
        }
        let mut own = Status::with_error_details(Code::Unavailable, message, details);
        self.pushback.write(&mut own);
        own.set_source(Arc::new(cause));
        own
    }
}

/// The status of a service that could not read the answer of a peer: tonic's client reports that after the channel. Any
/// other status unchanged.
pub fn unreadable(status: Status) -> Status {
    match Context::peer_that_answered().filter(|_| is_unreadable(&status)) {
        Some(path) => failed(method(&path), status),
        None => status,
    }
}

/// INTERNAL. The caller must not retry.
fn failed(method: &str, cause: Status) -> Status {
    let message = format!("a call of {method} failed; the log of its caller has the cause");
    let mut own = error::status(Code::Internal, DOMAIN, FAILED, message);
    own.set_source(Arc::new(cause));
    own
}

/// Whether the status reports a failure of a call that the peer made itself.
pub fn is_propagated(status: &Status) -> bool {
    reason(status).is_some_and(|reason| [NO_ENDPOINTS, UNREACHABLE, LOST, UNAVAILABLE, FAILED].contains(&&*reason))
}

/// The reason of a failure of a process or of a refused caller, if it is one of mesh.
pub fn reason(status: &Status) -> Option<String> {
    use Code::{Internal, PermissionDenied, Unauthenticated, Unavailable};
    let ours = matches!(status.code(), Unavailable | Internal | Unauthenticated | PermissionDenied);
    let info = status.get_details_error_info().filter(|info| ours && info.domain == DOMAIN);
    info.map(|info| info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::body::trailers;
    use crate::call::pushback::RETRY_PUSHBACK;
    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::BodyExt as _;
    use http_body_util::StreamBody;
    use tonic::body::Body;

    fn marked(response: Response<Body>) -> Response<Marked<Body>> {
        mark(response, PathAndQuery::from_static("/catalog.v1.CatalogService/GetTitle"), &Context::default())
    }

    /// What a generated client makes of a peer's failure.
    fn received(status: Status) -> Status {
        Status::from_header_map(marked(status.into_http()).headers()).unwrap()
    }

    /// Code and reason for the caller of a service that returns this status of a peer.
    fn becomes(status: Status) -> (Code, String) {
        let own = own(received(status));
        assert!(!own.message().contains("private") && !is_marked(&own), "{own:?}");
        assert!(std::error::Error::source(&own).is_none_or(|cause| cause.to_string().contains("private")), "{own:?}");
        (own.code(), own.get_error_details().error_info().unwrap().reason.clone())
    }

    fn delayed(code: Code, reason: &str) -> Status {
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, []);
        details.set_retry_info(Some(Duration::from_millis(70)));
        Status::with_error_details(code, "private", details)
    }

    #[test]
    fn peer_failures_become_those_of_the_table() {
        let is = |code, reason: &str| (code, reason.to_owned());
        for code in (1..=16).map(Code::from_i32) {
            let expected = match code {
                Code::DeadlineExceeded => is(Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
                Code::Unavailable | Code::Aborted => is(Code::Unavailable, UNAVAILABLE),
                _ => is(Code::Internal, FAILED),
            };
            assert_eq!(becomes(Status::new(code, "private")), expected, "{code:?}");
        }
        assert_eq!(becomes(delayed(Code::ResourceExhausted, "OVERLOADED")), is(Code::Unavailable, UNAVAILABLE));
        assert_eq!(becomes(delayed(Code::Unavailable, "DATABASE_UNAVAILABLE")), is(Code::Unavailable, UNAVAILABLE));
        for reason in [NO_ENDPOINTS, UNREACHABLE, LOST] {
            assert_eq!(becomes(delayed(Code::Unavailable, reason)), is(Code::Unavailable, reason));
        }
    }

    #[test]
    fn peer_failure_keeps_its_delay_and_its_cause() {
        let own = own(received(delayed(Code::ResourceExhausted, "OVERLOADED")));
        assert_eq!(own.get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_millis(70)));
        assert!(std::error::Error::source(&own).unwrap().to_string().contains("private"));
        assert!(own.message().contains("catalog.v1.CatalogService/GetTitle"), "{own}");
    }

    #[test]
    fn peer_failure_keeps_what_it_says_about_a_retry() {
        const MS: fn(u64) -> Duration = Duration::from_millis;
        let unavailable = || Status::unavailable("private");
        let info = || delayed(Code::Unavailable, "DATABASE_UNAVAILABLE");
        for (status, pushback, delay, header) in [
            (unavailable(), None, None, None),
            (unavailable(), Some("90"), Some(MS(90)), Some("90")),
            (unavailable(), Some("-1"), None, Some("-1")),
            (unavailable(), Some("soon"), None, Some("-1")),
            (info(), None, Some(MS(70)), Some("70")),
            (info(), Some("90"), Some(MS(90)), Some("90")),
            (delayed(Code::Unavailable, NO_ENDPOINTS), Some("70"), Some(MS(70)), Some("70")),
            (Status::resource_exhausted(""), Some("90"), Some(MS(90)), Some("90")),
        ] {
            let mut status = status;
            if let Some(pushback) = pushback {
                status.metadata_mut().insert(RETRY_PUSHBACK, pushback.parse().unwrap());
            }
            let header_of =
                |status: &Status| status.metadata().get(RETRY_PUSHBACK).map(|value| value.to_str().unwrap().to_owned());
            let passed = pass_on(received(status.clone()));
            assert_eq!(header_of(&passed).as_deref(), if pushback == Some("soon") { Some("-1") } else { pushback });
            let own = own(received(status));
            let info = own.get_details_retry_info().and_then(|info| info.retry_delay);
            assert_eq!((own.code(), info, header_of(&own).as_deref()), (Code::Unavailable, delay, header), "{own:?}");
        }
    }

    #[test]
    fn peer_failure_can_be_passed_on() {
        let passed = own(pass_on(received(error::status(Code::NotFound, "catalog", "TITLE_NOT_FOUND", "no title"))));
        assert_eq!((passed.code(), passed.message()), (Code::NotFound, "no title"));
        assert_eq!(passed.get_error_details().error_info().unwrap().reason, "TITLE_NOT_FOUND");
    }

    #[test]
    fn peer_cannot_set_the_mark() {
        let mut forged = Status::not_found("");
        forged.metadata_mut().insert(MARK, "forged".parse().unwrap());
        assert_eq!(received(forged).metadata().get(MARK).unwrap(), "catalog.v1.CatalogService/GetTitle");
        let mut ok = Status::ok("");
        ok.metadata_mut().insert(MARK, "forged".parse().unwrap());
        assert!(!is_marked(&received(ok)));
    }

    #[tokio::test]
    async fn peer_failure_is_marked_at_the_end_of_a_stream() {
        let end = |frame: Result<Frame<Bytes>, Status>| {
            marked(Response::new(Body::new(StreamBody::new(stream::iter([frame]))))).into_body().collect()
        };
        let trailers = end(Ok(Frame::trailers(trailers(&Status::not_found(""))))).await.unwrap();
        assert!(is_marked(&Status::from_header_map(trailers.trailers().unwrap()).unwrap()));
        assert!(is_marked(&end(Err(Status::unavailable(""))).await.unwrap_err()));
    }

    #[tokio::test]
    async fn peer_answer_that_cannot_be_read_is_not_blamed_on_the_request() {
        let too_large = || Status::out_of_range("Error, decoded message length too large: found 9 bytes");
        let context = Context::default();
        let blamed = context.clone().scope(async { unreadable(too_large()) }).await;
        assert_eq!(blamed.code(), Code::OutOfRange, "no peer was called: the request is too large");
        mark(Response::new(Body::empty()), PathAndQuery::from_static("/a.B/C"), &context);
        let peers = context.scope(async { unreadable(too_large()) }).await;
        assert_eq!((peers.code(), reason(&peers).as_deref()), (Code::Internal, Some(FAILED)));
        assert!(peers.message().contains("a.B/C"), "{peers}");
    }
}
