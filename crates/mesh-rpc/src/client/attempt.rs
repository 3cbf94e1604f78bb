//! One attempt at a call, and its record for load balancing and outlier ejection.
//!
//! An attempt is in flight until the last trailer of its response. The time to the response head is the latency of the
//! endpoint, except for methods that wait for an event. The final status counts for outlier ejection. So does silence
//! until the deadline.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::connections::Unanswered;
use super::deadline::Deadline;
use super::endpoint::Endpoint;
use super::http2::Received;
use super::outlier::Outcome;
use super::{failure, probe};
use crate::call::body::{Either, status_of};
use crate::call::compression::{ACCEPTED, Decompressed, Encoding, GRPC_ACCEPT_ENCODING, decode};
use crate::call::{Method, Protocol, plain};

/// The limit for the decompressed bytes of a message from a peer.
const MAX_DECOMPRESSED: usize = 64 * 1024 * 1024;
/// Silence counts as a failure only after this time: a shorter deadline does not prove a dead endpoint.
const MIN_SILENCE: Duration = Duration::from_millis(100);

/// Makes one attempt at a call.
///
/// # Errors
///
/// No response arrived. [`Unanswered`] tells whether the endpoint may have processed the request.
pub async fn call(
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    request: &mut Request<Body>,
    deadline: Deadline,
) -> Result<Response<Attempted>, Unanswered> {
    // The time that is left for this attempt.
    deadline.write(request);
    endpoint.metrics.picked();
    let attempt = Attempt::begin(Arc::clone(&endpoint), method, deadline);
    *request.uri_mut() = endpoint.absolute_uri(request.uri());
    request.headers_mut().insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
    match endpoint.connections.send(request).await {
        Ok(mut response) => {
            failure::drop_malformed_details(response.headers_mut());
            Ok(attempt.respond(response))
        }
        Err(unanswered) => {
            attempt.fail(&unanswered);
            Err(unanswered)
        }
    }
}

/// Records the outcome of an attempt, and starts a probe of `contract` if that ejects the endpoint.
fn record(endpoint: &Arc<Endpoint>, outcome: Outcome, contract: &'static str) {
    if outcome == Outcome::ConnectFailure {
        endpoint.report_unreachable();
    }
    if endpoint.outlier.record(outcome) {
        endpoint.metrics.ejected();
        tracing::warn!(endpoint = %endpoint.authority, "ejected: not called for a while: {}", match outcome {
            Outcome::ConnectFailure => "no connection can be opened",
            _ => "consecutive calls failed",
        });
        tokio::spawn(probe::watch(Arc::downgrade(endpoint), contract));
    }
}

/// The response body of an attempt, whose compressed messages are decompressed one by one.
pub type Attempted = Either<AttemptBody, Body>;

fn decompressed(mut response: Response<AttemptBody>) -> Response<Attempted> {
    let Some(encoding) = Encoding::take(response.headers_mut()) else { return response.map(Either::Plain) };
    let counted = Arc::new(Decompressed::of(&Arc::default(), MAX_DECOMPRESSED));
    response.map(|body| Either::Wrapped(decode(Body::new(body), encoding, counted)))
}

/// An attempt in progress.
struct Attempt {
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    deadline: Deadline,
    start: Instant,
    responded: bool,
    completed: bool,
}

impl Attempt {
    fn begin(endpoint: Arc<Endpoint>, method: &'static Method, deadline: Deadline) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, method, deadline, start: Instant::now(), responded: false, completed: false }
    }

    /// The response head has arrived.
    fn respond(mut self, response: Response<Received>) -> Response<Attempted> {
        self.responded = true;
        // A status is of a sidecar there, or of a layer before it.
        if self.method.protocol == Protocol::Http && !response.headers().contains_key(Status::GRPC_STATUS) {
            return self.respond_plain(response);
        }
        if let Some(status) = failure::from_http(&response) {
            // The sender of an invalid request is at fault for these codes, not the endpoint.
            let invalid_request =
                response.status().is_client_error() && response.status() != StatusCode::TOO_MANY_REQUESTS;
            self.complete(if invalid_request { Outcome::Success } else { Outcome::of(&status) });
            return status.into_http::<Body>().map(Either::Wrapped);
        }
        let status = status_of(response.headers());
        // Failures and refused calls are often fast. They must not lower the latency of the endpoint.
        let outcome = status.as_ref().map(Outcome::of);
        let refused = status.is_some_and(|status| status.code() == Code::ResourceExhausted);
        if !refused && outcome.is_none_or(|outcome| outcome == Outcome::Success) {
            self.record_latency();
        }
        if let Some(outcome) = outcome {
            self.complete(outcome);
        }
        decompressed(response.map(|body| AttemptBody { body, attempt: self }))
    }

    /// The head of an answer of HTTP has arrived. A proxy or the server says by its code that the endpoint cannot
    /// answer.
    fn respond_plain(mut self, response: Response<Received>) -> Response<Attempted> {
        let failed = matches!(
            response.status(),
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        );
        self.complete(if failed { Outcome::Failure } else { Outcome::Success });
        let response = response.map(|body| AttemptBody { body, attempt: self });
        plain::ended(response).map(|body| Either::Wrapped(Body::new(body)))
    }

    /// No response will arrive.
    fn fail(mut self, why: &Unanswered) {
        match why {
            Unanswered::Unreachable(_) | Unanswered::Foreign(_) => self.complete(Outcome::ConnectFailure),
            Unanswered::Lost(_) => self.complete(Outcome::Failure),
            // The endpoint closes its connection in order, or refuses the stream: no failure.
            Unanswered::Refused(_) => self.completed = true,
        }
    }

    fn record_latency(&self) {
        if !self.method.waits {
            self.endpoint.record_latency(self.start.elapsed());
        }
    }

    fn complete(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.completed, true) {
            record(&self.endpoint, outcome, self.method.service);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        // A caller that cancels earlier proves nothing. A stream may be open at its deadline.
        let silent = !self.responded && !self.completed && self.deadline.is_expired();
        if silent && self.start.elapsed() >= MIN_SILENCE {
            // The latency is not recorded. It would divert calls from the endpoint, which would then be neither ejected
            // nor probed.
            self.complete(Outcome::Failure);
        }
    }
}

/// A response body. The end of the body is the end of the attempt.
pub struct AttemptBody {
    body: Received,
    attempt: Attempt,
}

impl http_body::Body for AttemptBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                frame.trailers_mut().into_iter().for_each(failure::drop_malformed_details);
                if let Some(status) = frame.trailers_ref().and_then(status_of) {
                    self.attempt.complete(Outcome::of(&status));
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.attempt.complete(Outcome::Failure);
                Some(Err(failure::lost(Arc::new(error))))
            }
            None => {
                // The body ended without a status. If the head had one, the attempt is completed already.
                self.attempt.complete(Outcome::Failure);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
