//! Trying again: which calls, how often, and when not.
//!
//! A request that was never sent may be sent again, whatever it asks for. One that may have been received may be sent
//! again if its contract says that this does no harm (`idempotency_level`). Both only after a failure that says "not
//! now": a connection that broke, UNAVAILABLE, or RESOURCE_EXHAUSTED with the invitation to come back. The pause before
//! it is random, so that callers who failed together do not come back together, and no shorter than the invitation.
//!
//! Retries are what turns a failure into an outage: when everything fails, every caller would multiply its calls. So
//! they have a **budget** per peer instead of just a number per call: one for every six calls of the last ten seconds,
//! and one a second on top, without which those who call seldom would have none. A failing peer is asked a sixth more
//! often than a healthy one, and no more. Nor do retries multiply from hop to hop: what a peer passes on of a call of
//! its own has been tried again there.
//!
//! Only calls that are asked with one message are tried again: that message is read whole before it is first sent. So
//! is the answer of a call that may be repeated, since a connection may still break after its head.

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

/// Attempts at one call, the first one among them.
const ATTEMPTS: usize = 5;
/// The pause between attempts, with full jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
/// Whoever is invited to come back later than this is better told so.
const PATIENCE: Duration = Duration::from_secs(5);

/// A peer that runs in other processes.
pub struct Remote {
    service: &'static str,
    endpoints: Endpoints,
    budget: TpsBudget,
    metrics: PeerMetrics,
}

impl Remote {
    /// Calls `service`, by its name, at `endpoints`.
    pub fn new(service: &'static str, endpoints: Endpoints, metrics: PeerMetrics) -> Self {
        // tower makes whole calls of the share: one for every six.
        Self { service, endpoints, budget: TpsBudget::new(Duration::from_secs(10), 1, 0.16), metrics }
    }

    /// Asks one of its endpoints, and another one if that is allowed and of use before the deadline.
    pub async fn call(&self, call: Call, deadline: Deadline) -> Response<Body> {
        self.budget.deposit();
        let Call { method, request } = call;
        if method.client_streaming {
            return match self.endpoints.pick(&[]).await {
                Some(endpoint) => {
                    let answer = attempt_at(endpoint, method, request, deadline).await;
                    self.respond(answer, false).map(|body| deadline.enforce_body(body))
                }
                None => failure::no_endpoints(self.service).into_http(),
            };
        }
        let (head, message) = request.into_parts();
        match message.collect().await {
            Ok(message) => self.try_again(method, &head, &message.to_bytes(), deadline).await,
            Err(status) => status.into_http(),
        }
    }

    async fn try_again(
        &self,
        method: &'static Method,
        head: &Parts,
        message: &Bytes,
        deadline: Deadline,
    ) -> Response<Body> {
        let repeatable = matches!(method.idempotency, IdempotencyLevel::NoSideEffects | IdempotencyLevel::Idempotent);
        let mut tried: Vec<Arc<Endpoint>> = Vec::new();
        // Whether any endpoint may have begun to work for it.
        let mut sent = false;
        let mut last = None;
        loop {
            let Some(endpoint) = self.endpoints.pick(&tried).await else {
                let nobody = || failure::no_endpoints(self.service).into_http();
                return last.map_or_else(nobody, |answer| self.respond(answer, sent));
            };
            let request = Request::from_parts(head.clone(), Body::new(Full::new(message.clone())));
            let answer = attempt_at(Arc::clone(&endpoint), method, request, deadline).await;
            let answer = if repeatable && !method.server_streaming {
                whole(answer).await
            } else {
                answer.map(|response| response.map(|body| deadline.enforce_body(body)))
            };
            sent |= matches!(answer, Ok(_) | Err(Unanswered::Lost(_)));
            let Some(invited) = worth_repeating(&answer, repeatable) else { return self.respond(answer, sent) };
            tried.push(endpoint);
            let failures = u32::try_from(tried.len()).unwrap_or(u32::MAX);
            let pause = BACKOFF.pause(failures).max(invited);
            if tried.len() == ATTEMPTS || deadline.left().is_some_and(|left| left <= pause) {
                return self.respond(answer, sent);
            }
            if !self.budget.withdraw() {
                self.metrics.retry_denied();
                return self.respond(answer, sent);
            }
            self.metrics.retried();
            last = Some(answer);
            sleep(pause).await;
        }
    }

    fn respond(&self, answer: Result<Response<Body>, Unanswered>, sent: bool) -> Response<Body> {
        answer.unwrap_or_else(|why| failure::unanswered(self.service, why, sent).into_http())
    }
}

async fn attempt_at(
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    mut request: Request<Body>,
    deadline: Deadline,
) -> Result<Response<Body>, Unanswered> {
    // What is left for this one.
    deadline.write(&mut request);
    attempt::call(endpoint, method, request, deadline).await
}

/// The answer once all of it is there.
async fn whole(answer: Result<Response<Body>, Unanswered>) -> Result<Response<Body>, Unanswered> {
    let (mut head, body) = answer?.into_parts();
    match body.collect().await {
        Ok(body) => {
            // The head is where a failure is looked for; gRPC has it in the trailers if it came late.
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

/// Whether to try again, and the pause that was asked for.
fn worth_repeating(answer: &Result<Response<Body>, Unanswered>, repeatable: bool) -> Option<Duration> {
    let response = match answer {
        Err(Unanswered::Lost(_)) => return repeatable.then_some(Duration::ZERO),
        Err(_) => return Some(Duration::ZERO),
        Ok(response) => response,
    };
    let status = Status::from_header_map(response.headers()).filter(|_| repeatable)?;
    let invited = status.get_details_retry_info().and_then(|invitation| invitation.retry_delay);
    let pause = match status.code() {
        Code::Unavailable if !failure::is_passed_on(&status) => Some(invited.unwrap_or_default()),
        Code::ResourceExhausted => invited,
        _ => None,
    };
    pause.filter(|pause| *pause <= PATIENCE)
}
