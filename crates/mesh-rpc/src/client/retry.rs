//! Retries of calls to a peer in other processes.
//!
//! A retry follows a broken connection, UNAVAILABLE, or RESOURCE_EXHAUSTED with a `RetryInfo`. The pause has full
//! jitter, unless the `RetryInfo` asks for a longer one: that is taken as it is.
//!
//! Guarantees:
//! - A request that was not sent may be retried. A request that may have been received is retried only if its contract
//!   says NO_SIDE_EFFECTS or IDEMPOTENT.
//! - The budget of the peer bounds all retries, and no retry passes the deadline.
//! - A failure that the peer propagates from a peer of its own is not retried.
//! - A call has five attempts at most. Methods with streaming requests are not retried. Other requests are buffered, and so are the responses of idempotent unary
//!   calls: a connection may break after the response head.
//!
//! See: decision 0017.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use mesh_runtime::Backoff;
use tokio::time::sleep;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::retry::budget::{Budget as _, TpsBudget};

use super::attempt;
use super::connections::Unanswered;
use super::deadline::Deadline;
use super::endpoint::Endpoint;
use super::endpoints::Endpoints;
use super::failure;
use crate::call::{Call, IdempotencyLevel, Method};
use crate::telemetry::PeerMetrics;

/// The largest number of attempts at one call, including the first.
const MAX_ATTEMPTS: usize = 5;
/// The pause between attempts, with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
/// A longer `RetryInfo` is returned to the caller instead.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// A peer that runs in other processes.
pub struct Remote {
    service: &'static str,
    endpoints: Endpoints,
    budget: TpsBudget,
    metrics: PeerMetrics,
}

impl Remote {
    /// Calls `service` at `endpoints`.
    pub fn new(service: &'static str, endpoints: Endpoints, metrics: PeerMetrics) -> Self {
        // tower rounds the share to whole calls: one retry for every six.
        Self { service, endpoints, budget: TpsBudget::new(Duration::from_secs(10), 1, 0.16), metrics }
    }

    /// Calls an endpoint, and retries where the rules of this module allow it, at another endpoint if a healthy one is left.
    pub async fn call(&self, call: Call, deadline: Deadline) -> Response<Body> {
        self.budget.deposit();
        let Call { method, request } = call;
        if method.client_streaming {
            return match self.endpoints.pick(&[]).await {
                Some(endpoint) => {
                    let result = attempt_at(endpoint, method, request, deadline).await;
                    self.respond(result, false).map(|body| deadline.enforce_body(body))
                }
                None => self.no_endpoints(),
            };
        }
        let (head, message) = request.into_parts();
        match message.collect().await {
            Ok(message) => self.call_with_retries(method, &head, &message.to_bytes(), deadline).await,
            Err(status) => status.into_http(),
        }
    }

    async fn call_with_retries(
        &self,
        method: &'static Method,
        head: &Parts,
        message: &Bytes,
        deadline: Deadline,
    ) -> Response<Body> {
        let idempotent = matches!(method.idempotency, IdempotencyLevel::NoSideEffects | IdempotencyLevel::Idempotent);
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        // Whether an endpoint may have processed the request.
        let mut sent = false;
        let mut last = None;
        loop {
            let Some(endpoint) = self.endpoints.pick(&tried).await else {
                return last.map_or_else(|| self.no_endpoints(), |result| self.respond(result, sent));
            };
            let request = Request::from_parts(head.clone(), Body::new(Full::new(message.clone())));
            let result = attempt_at(Arc::clone(&endpoint), method, request, deadline).await;
            let result = if idempotent && !method.server_streaming {
                buffer(result).await
            } else {
                result.map(|response| response.map(|body| deadline.enforce_body(body)))
            };
            sent |= matches!(result, Ok(_) | Err(Unanswered::Lost(_)));
            let Some(delay) = retry_delay(&result, idempotent) else { return self.respond(result, sent) };
            tried.push(endpoint);
            let failures = u32::try_from(tried.len()).unwrap_or(u32::MAX);
            let pause = BACKOFF.pause(failures).max(delay);
            if tried.len() == MAX_ATTEMPTS || deadline.remaining().is_some_and(|left| left <= pause) {
                return self.respond(result, sent);
            }
            if !self.budget.withdraw() {
                self.metrics.retry_denied();
                return self.respond(result, sent);
            }
            self.metrics.retried();
            last = Some(result);
            sleep(pause).await;
        }
    }

    fn no_endpoints(&self) -> Response<Body> {
        failure::no_endpoints(self.service, self.endpoints.why_empty().as_deref()).into_http()
    }

    fn respond(&self, result: Result<Response<Body>, Unanswered>, sent: bool) -> Response<Body> {
        result.unwrap_or_else(|why| failure::unanswered(self.service, why, sent).into_http())
    }
}

async fn attempt_at(
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    mut request: Request<Body>,
    deadline: Deadline,
) -> Result<Response<Body>, Unanswered> {
    // The time that is left for this attempt.
    deadline.write(&mut request);
    attempt::call(endpoint, method, request, deadline).await
}

/// Buffers the whole response.
async fn buffer(result: Result<Response<Body>, Unanswered>) -> Result<Response<Body>, Unanswered> {
    let (mut head, body) = result?.into_parts();
    match body.collect().await {
        Ok(body) => {
            // Retries look for the status in the head. A status in the trailers moves there.
            if let Some(failed) = body.trailers().and_then(Status::from_header_map).filter(|s| s.code() != Code::Ok) {
                let mut response = failed.into_http();
                head.headers.extend(std::mem::take(response.headers_mut()));
                *response.headers_mut() = head.headers;
                return Ok(response);
            }
            Ok(Response::from_parts(head, Body::new(body.map_err(|never| match never {}))))
        }
        Err(status) => Err(Unanswered::Lost(Arc::new(status))),
    }
}

/// The least pause before a retry; `None` if the call must not be retried.
fn retry_delay(result: &Result<Response<Body>, Unanswered>, idempotent: bool) -> Option<Duration> {
    let response = match result {
        Err(Unanswered::Lost(_)) => return idempotent.then_some(Duration::ZERO),
        Err(_) => return Some(Duration::ZERO),
        Ok(response) => response,
    };
    let status = Status::from_header_map(response.headers()).filter(|_| idempotent)?;
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let pause = match status.code() {
        Code::Unavailable if !failure::is_propagated(&status) => Some(delay.unwrap_or_default()),
        Code::ResourceExhausted => delay,
        _ => None,
    };
    pause.filter(|pause| *pause <= MAX_RETRY_DELAY)
}
