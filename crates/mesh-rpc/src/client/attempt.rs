//! One attempt at a call, and what it says of the endpoint that it was made at.
//!
//! It is in flight until the last trailer of its answer. How long the head of the answer took is how fast the endpoint
//! is, unless the call waits for something else than work; how it ended is how well the endpoint is. That nothing at all
//! came before the deadline speaks against it, if it had a fair chance.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use super::connections::{InUse, Unanswered};
use super::deadline::Deadline;
use super::endpoint::Endpoint;
use super::outlier::Outcome;
use super::{failure, probe};
use crate::call::Method;

/// Who had less time than this is not to blame for having been silent.
const FAIR: Duration = Duration::from_millis(100);

/// Makes one attempt at a call.
///
/// # Errors
///
/// There is no answer, and [`Unanswered`] says how far the request got.
pub async fn call(
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    mut request: Request<Body>,
    deadline: Deadline,
) -> Result<Response<Body>, Unanswered> {
    endpoint.metrics.picked();
    let attempt = Attempt::begin(Arc::clone(&endpoint), method, deadline);
    *request.uri_mut() = endpoint.locate(request.uri());
    match endpoint.connections.send(request).await {
        Ok((response, in_use)) => Ok(attempt.answered(response, in_use)),
        Err(unanswered) => {
            attempt.unanswered(&unanswered);
            Err(unanswered)
        }
    }
}

/// Notes how an attempt at a call of `contract` ended, and starts a probe if that ejects the endpoint.
fn report(endpoint: &Arc<Endpoint>, outcome: Outcome, contract: &'static str) {
    if endpoint.outlier.ejects(outcome) {
        endpoint.metrics.ejected();
        tracing::warn!(endpoint = %endpoint.authority, "ejected: not called for a while: {}", match outcome {
            Outcome::Unreachable => "it cannot be reached",
            _ => "its calls fail",
        });
        tokio::spawn(probe::watch(Arc::downgrade(endpoint), contract));
    }
}

/// An attempt under way.
struct Attempt {
    endpoint: Arc<Endpoint>,
    method: &'static Method,
    deadline: Deadline,
    begin: Instant,
    answered: bool,
    ended: bool,
}

impl Attempt {
    fn begin(endpoint: Arc<Endpoint>, method: &'static Method, deadline: Deadline) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { endpoint, method, deadline, begin: Instant::now(), answered: false, ended: false }
    }

    /// There is the head of an answer.
    fn answered(mut self, response: Response<Incoming>, in_use: InUse) -> Response<Body> {
        self.answered = true;
        if let Some(said) = failure::not_grpc(&response) {
            // What is wrong with a request is no fault of who says so.
            let ours = response.status().is_client_error() && response.status() != StatusCode::TOO_MANY_REQUESTS;
            self.ended(if ours { Outcome::Well } else { Outcome::of(&said) });
            return said.into_http();
        }
        let status = Status::from_header_map(response.headers());
        // A failure, and a refusal for being overloaded, are often fast, and must not make it look good.
        let outcome = status.as_ref().map(Outcome::of);
        let refused = status.is_some_and(|status| status.code() == Code::ResourceExhausted);
        if !refused && outcome.is_none_or(|outcome| outcome == Outcome::Well) {
            self.measure();
        }
        if let Some(outcome) = outcome {
            self.ended(outcome);
        }
        response.map(|body| Body::new(Observed { body, attempt: self, _in_use: in_use }))
    }

    /// There is none, nor will there be.
    fn unanswered(mut self, why: &Unanswered) {
        match why {
            Unanswered::Unreachable(_) => self.ended(Outcome::Unreachable),
            Unanswered::Lost(_) => self.ended(Outcome::Badly),
            // It goes away, and says so.
            Unanswered::Refused(_) => self.ended = true,
        }
    }

    fn measure(&self) {
        if !self.method.waits() {
            self.endpoint.took(self.begin.elapsed());
        }
    }

    fn ended(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.ended, true) {
            report(&self.endpoint, outcome, self.method.service);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
        // Who leaves earlier has reasons of their own, and a stream may well be open when its time is over.
        let silent = !self.answered && !self.ended && self.deadline.is_over();
        if silent && self.begin.elapsed() >= FAIR {
            // Not measured: it would be avoided from then on, and neither ejected nor asked for its health.
            self.ended(Outcome::Badly);
        }
    }
}

/// The body of an answer, whose end is the end of its attempt.
struct Observed {
    body: Incoming,
    attempt: Attempt,
    _in_use: InUse,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.attempt.ended(Outcome::of(&status));
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.attempt.ended(Outcome::Badly);
                Some(Err(failure::lost(Arc::new(error))))
            }
            None => {
                // Without a status, unless it was in the head.
                self.attempt.ended(Outcome::Badly);
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
