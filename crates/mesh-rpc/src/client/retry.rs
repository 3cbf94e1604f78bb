//! Retries of calls to a peer in other processes.
//!
//! A retry follows a broken connection, UNAVAILABLE, or RESOURCE_EXHAUSTED that invites a retry. `retry_pause` has the
//! pauses.
//!
//! Guarantees:
//! - A request that was not sent, or that a process refused because it starts, may be retried. A request that may have
//!   begun is retried only if its contract says NO_SIDE_EFFECTS or IDEMPOTENT.
//! - The budget of the peer bounds all retries, and no retry passes the deadline.
//! - A failure that the peer propagates from a peer of its own is not retried.
//! - A call has five attempts at most. Methods with streaming requests are retried only while no connection opens.
//!   Other requests are buffered, and so are the responses of idempotent unary calls: a connection may break after the
//!   response head. `buffer` bounds both; a call above the bound is not retried.
//! - The header `grpc-previous-rpc-attempts` has the number of attempts that a server may have seen.
//!
//! See: decision 0017.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, response};
use http_body_util::{BodyExt as _, Full};
use tokio::time::sleep;
use tonic::body::Body;
use tower::retry::budget::{Budget as _, TpsBudget};

use super::attempt::{self, Attempted};
use super::buffer::{Buffers, Read};
use super::connections::Unanswered;
use super::deadline::Deadline;
use super::endpoint::Endpoint;
use super::endpoints::Endpoints;
use super::failure;
use super::retry_pause::Pauses;
use crate::call::body::{PassedThrough, body_in_memory, failure_of};
use crate::call::compression::is_undecoded;
use crate::call::{IdempotencyLevel, Method, peer};
use crate::telemetry::{self, Edge, PeerMetrics, code_text};

/// The largest number of attempts at one call, including the first.
const MAX_ATTEMPTS: usize = 5;
/// The number of attempts before this one ([gRFC
/// A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#exposed-retry-metadata)).
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

/// A peer that runs in other processes.
pub struct Remote {
    service: &'static str,
    endpoints: Endpoints,
    budget: TpsBudget,
    buffers: Buffers,
    /// Whether calls are those of other hops, which retry them.
    passes_on: bool,
    metrics: PeerMetrics,
}

/// The attempts at one call.
pub struct Attempts {
    edge: &'static Edge,
    made: AtomicU16,
}

impl Attempts {
    /// Before the first.
    pub fn at(edge: &'static Edge) -> Self {
        Self { edge, made: AtomicU16::new(1) }
    }

    /// Another one follows.
    fn repeat(&self) {
        self.edge.retried();
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were made.
    pub fn made(&self) -> u16 {
        self.made.load(Ordering::Relaxed)
    }
}

impl Remote {
    /// Calls `service` at `endpoints`. With `passes_on`, the calls are those of other hops: they retry what may have
    /// been received, and this hop only what no handler has begun.
    pub fn new(service: &'static str, endpoints: Endpoints, passes_on: bool, metrics: PeerMetrics) -> Self {
        // tower rounds the share to whole calls: one retry for every six.
        let budget = TpsBudget::new(Duration::from_secs(10), 1, 0.16);
        Self { service, endpoints, budget, buffers: Buffers::default(), passes_on, metrics }
    }

    /// Calls an endpoint, and retries where the rules of this module allow it, at another endpoint if a healthy one is
    /// left.
    pub async fn call(
        &self,
        method: &'static Method,
        mut request: Request<Body>,
        deadline: Deadline,
        attempts: &Attempts,
    ) -> Response<Body> {
        self.budget.deposit();
        if !method.client_streaming {
            let message = std::mem::take(request.body_mut());
            match self.buffers.read(message).await {
                Ok(Read::Whole(message, _, _reserved)) => {
                    return self.call_with_retries(method, &mut request, &message, deadline, attempts).await;
                }
                Ok(Read::TooLarge(message)) => *request.body_mut() = message,
                Err(status) => return status.into_http(),
            }
        }
        *request.body_mut() = Body::new(PassedThrough::of(std::mem::take(request.body_mut())));
        self.call_once(method, &mut request, deadline, attempts).await
    }

    async fn call_once(
        &self,
        method: &'static Method,
        request: &mut Request<Body>,
        deadline: Deadline,
        attempts: &Attempts,
    ) -> Response<Body> {
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        let mut unreachable = None;
        while let Some(endpoint) = self.endpoints.pick(&tried).await {
            if tried.iter().any(|before| Arc::ptr_eq(before, &endpoint)) || tried.len() == MAX_ATTEMPTS {
                break;
            }
            let result = attempt::call(Arc::clone(&endpoint), method, request, deadline).await;
            let result = result.map(|response| response.map(|body| deadline.enforce_body(Body::new(body))));
            if !matches!(result, Err(Unanswered::Unreachable(_))) {
                return self.respond(&endpoint, result, false);
            }
            if !self.budget.withdraw() {
                self.metrics.retry_denied();
                return self.respond(&endpoint, result, false);
            }
            // The request was not touched: another endpoint can have it.
            self.repeats(&endpoint, &result, attempts);
            unreachable = Some(result);
            tried.push(endpoint);
        }
        match (tried.last(), unreachable) {
            (Some(endpoint), Some(result)) => self.respond(endpoint, result, false),
            _ => self.no_endpoints(),
        }
    }

    async fn call_with_retries(
        &self,
        method: &'static Method,
        request: &mut Request<Body>,
        message: &Bytes,
        deadline: Deadline,
        attempts: &Attempts,
    ) -> Response<Body> {
        let idempotent = !self.passes_on
            && matches!(method.idempotency, IdempotencyLevel::NoSideEffects | IdempotencyLevel::Idempotent);
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        // Attempts that an endpoint may have processed.
        let mut sent: u32 = 0;
        let (mut pauses, mut last) = (Pauses::default(), None);
        let (head, _) = std::mem::take(request).into_parts();
        loop {
            let Some(endpoint) = self.endpoints.pick(&tried).await else {
                let (Some(endpoint), Some(result)) = (tried.last(), last) else { return self.no_endpoints() };
                return self.respond(endpoint, result, sent > 0);
            };
            // An attempt takes the request.
            let body = body_in_memory(method, Full::new(message.clone()).map_err(|never| match never {}));
            *request = Request::from_parts(head.clone(), body);
            if sent > 0 {
                request.headers_mut().insert(PREVIOUS_ATTEMPTS, sent.into());
            }
            let result = attempt::call(Arc::clone(&endpoint), method, request, deadline).await;
            let result = if idempotent && !method.server_streaming {
                self.buffer(method, result, deadline).await
            } else {
                result.map(|response| response.map(|body| deadline.enforce_body(Body::new(body))))
            };
            sent += u32::from(matches!(result, Ok(_) | Err(Unanswered::Lost(_))));
            let pause = pauses.after(&result, idempotent);
            let Some(pause) = pause else { return self.respond(&endpoint, result, sent > 0) };
            tried.push(Arc::clone(&endpoint));
            if tried.len() == MAX_ATTEMPTS || deadline.remaining().is_some_and(|left| left <= pause) {
                return self.respond(&endpoint, result, sent > 0);
            }
            if !self.budget.withdraw() {
                self.metrics.retry_denied();
                return self.respond(&endpoint, result, sent > 0);
            }
            self.repeats(&endpoint, &result, attempts);
            last = Some(result);
            sleep(pause).await;
        }
    }

    /// Buffers the whole response, unless it is above the bound.
    async fn buffer(
        &self,
        method: &Method,
        result: Result<Response<Attempted>, Unanswered>,
        deadline: Deadline,
    ) -> Result<Response<Body>, Unanswered> {
        let (head, body) = result?.into_parts();
        match self.buffers.read(body).await {
            // The caller takes the message over.
            Ok(Read::Whole(message, trailers, _)) => Ok(whole(method, head, message, trailers)),
            Ok(Read::TooLarge(body)) => Ok(Response::from_parts(head, deadline.enforce_body(body))),
            // The peer answered, and would answer so again.
            Err(status) if is_undecoded(&status) => Ok(status.into_http()),
            Err(status) => Err(Unanswered::Lost(Arc::new(status))),
        }
    }

    fn no_endpoints(&self) -> Response<Body> {
        failure::no_endpoints(self.service, self.endpoints.why_empty().as_deref()).into_http()
    }

    /// Notes that another attempt follows.
    fn repeats(&self, endpoint: &Endpoint, result: &Result<Response<Body>, Unanswered>, attempts: &Attempts) {
        self.metrics.retried();
        attempts.repeat();
        let error = match result {
            Ok(response) => failure_of(response.headers()).map_or("UNKNOWN", |status| code_text(status.code())),
            Err(Unanswered::Lost(_)) => peer::LOST,
            Err(_) => peer::UNREACHABLE,
        };
        telemetry::repeated(&endpoint.authority, error);
    }

    /// The answer of the last attempt, which was at `endpoint`.
    fn respond(&self, endpoint: &Endpoint, result: Result<Response<Body>, Unanswered>, sent: bool) -> Response<Body> {
        telemetry::contacted(&endpoint.authority);
        result.unwrap_or_else(|why| failure::unanswered(self.service, why, sent).into_http())
    }
}

/// A response that has arrived. Retries look for the status in the head: a status in the trailers moves there.
fn whole(method: &Method, mut head: response::Parts, message: Bytes, trailers: Option<HeaderMap>) -> Response<Body> {
    if let Some(failed) = trailers.as_ref().and_then(failure_of) {
        let mut response = failed.into_http();
        head.headers.extend(std::mem::take(response.headers_mut()));
        *response.headers_mut() = head.headers;
        return response;
    }
    let message = Full::new(message).map_err(|never| match never {});
    let body = match trailers {
        Some(trailers) => body_in_memory(method, message.with_trailers(std::future::ready(Some(Ok(trailers))))),
        None => body_in_memory(method, message),
    };
    Response::from_parts(head, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::body::trailers;
    use tonic::{Code, Status};

    fn head() -> response::Parts {
        Response::builder().header("x-of-the-head", "a").body(()).unwrap().into_parts().0
    }

    #[tokio::test]
    async fn failure_behind_a_message_moves_to_the_head() {
        let failed = whole(
            Method::unknown(),
            head(),
            Bytes::from_static(b"message"),
            Some(trailers(&Status::unavailable("away"))),
        );
        let status = failure_of(failed.headers()).unwrap();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "away"));
        assert_eq!(failed.headers()["x-of-the-head"], "a");
        let body = failed.into_body().collect().await.unwrap();
        assert!(body.trailers().is_none() && body.to_bytes().is_empty(), "the message of a failed call");
    }

    #[tokio::test]
    async fn whole_answer_keeps_its_message_and_its_trailers() {
        for of_a_call in [None, Some(trailers(&Status::ok("")))] {
            let answer = whole(Method::unknown(), head(), Bytes::from_static(b"message"), of_a_call.clone());
            assert!(failure_of(answer.headers()).is_none() && answer.headers()["x-of-the-head"] == "a");
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.trailers(), of_a_call.as_ref());
            assert_eq!(body.to_bytes(), "message");
        }
    }
}
