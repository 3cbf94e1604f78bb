//! The deadline of a call to a peer.
//!
//! The deadline is the earlier of two: the `grpc-timeout` of the request, and the remaining time of the call being
//! served less a margin. Without either, a unary call has the default of its contract, or else the configured default.
//! A stream has no default.
//!
//! Guarantees:
//! - The remaining time travels to the peer in `grpc-timeout`, and the peer enforces it too.
//! - A peer that does not answer costs no more than the deadline.

use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tonic::body::Body;

use crate::call::body::{failure_of, take_until};
use crate::call::error::exceeded;
use crate::call::{Context, Method, read_timeout, within, write_timeout};

/// Each hop keeps this much of its time, so that the last hop expires first and its status reaches the others.
const MARGIN: Duration = Duration::from_millis(5);

/// The point in time after which a response is useless; `None` for a stream without a deadline.
#[derive(Clone, Copy, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// The deadline of `request`, which is made while serving a call in `context`.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT if the request's `grpc-timeout` is malformed.
    pub fn of(
        request: &Request<Body>,
        method: &Method,
        context: &Context,
        configured: Duration,
    ) -> Result<Self, Status> {
        let requested = read_timeout(request.headers())?;
        let left = context.remaining().map(|left| left.saturating_sub(MARGIN));
        let stream = method.client_streaming || method.server_streaming;
        let default = (!stream).then(|| method.default_deadline.unwrap_or(configured));
        let budget = requested.into_iter().chain(left).min().or(default);
        Ok(Self(budget.map(|budget| Instant::now() + budget)))
    }

    /// The time left; zero if the deadline has passed, `None` if there is none.
    pub fn remaining(self) -> Option<Duration> {
        self.0.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether the deadline has passed.
    pub fn is_expired(self) -> bool {
        self.remaining().is_some_and(|left| left.is_zero())
    }

    /// Writes the remaining time as `grpc-timeout`.
    pub fn write(self, request: &mut Request<Body>) {
        if let Some(left) = self.remaining() {
            write_timeout(request.headers_mut(), left);
        }
    }

    /// The response, or DEADLINE_EXCEEDED if the deadline passes first. A failure at the deadline, such as CANCELLED by
    /// a hop below, becomes DEADLINE_EXCEEDED too.
    pub async fn enforce(self, answering: Pin<&mut impl Future<Output = Response<Body>>>) -> Response<Body> {
        match within(self.0, answering).await {
            Some(response) if failed(&response) && self.is_expired() => exceeded().into_http(),
            Some(response) => response,
            None => exceeded().into_http(),
        }
    }

    /// Ends a response body with DEADLINE_EXCEEDED at the deadline.
    pub fn enforce_body(self, body: Body) -> Body {
        let Some(until) = self.0 else { return body };
        take_until(body, async move {
            sleep_until(until).await;
            exceeded()
        })
    }
}

fn failed(response: &Response<Body>) -> bool {
    failure_of(response.headers()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Access, IdempotencyLevel, Methods, Protocol};

    const CALL: &str = "/google.longrunning.Operations/GetOperation";

    /// A method with a deadline in its contract.
    static QUICK: Method = Method {
        number: 0,
        service: "test.v1.TestService",
        name: "Quick",
        idempotency: IdempotencyLevel::NoSideEffects,
        default_deadline: Some(Duration::from_secs(2)),
        client_streaming: false,
        server_streaming: false,
        waits: false,
        protocol: Protocol::Grpc,
        access: Access::Internal,
        scopes: &[],
    };

    /// The time left at the start of a call with this `grpc-timeout`, in a context with this many seconds left.
    fn budget(path: &str, timeout: Option<&str>, left: Option<u64>) -> Option<Duration> {
        budget_of(Methods::of(&[]).find(path), timeout, left)
    }

    fn budget_of(method: &Method, timeout: Option<&str>, left: Option<u64>) -> Option<Duration> {
        let mut request = Request::new(Body::empty());
        if let Some(timeout) = timeout {
            request.headers_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        let deadline = left.map(|left| Instant::now() + Duration::from_secs(left));
        let context = Context { deadline, ..Context::default() };
        Deadline::of(&request, method, &context, Duration::from_secs(10)).unwrap().remaining()
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_defaults_to_the_contract_then_to_the_configuration() {
        assert_eq!(budget_of(&QUICK, None, None), Some(Duration::from_secs(2)));
        assert_eq!(budget(CALL, None, None), Some(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_of_a_stream_has_no_default() {
        let watch = "/mesh.operations.v1.OperationEventsService/Watch";
        assert_eq!(budget(watch, None, None), None);
        assert_eq!(budget(watch, Some("1H"), None), Some(Duration::from_secs(3600)));
        assert_eq!(budget(watch, None, Some(60)), Some(Duration::from_secs(60) - MARGIN));
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_is_bounded_by_the_call_being_served() {
        assert_eq!(budget(CALL, Some("1H"), Some(2)), Some(Duration::from_secs(2) - MARGIN));
        assert_eq!(budget(CALL, Some("500m"), Some(2)), Some(Duration::from_millis(500)));
        // A caller may set more than the default of the contract.
        assert_eq!(budget_of(&QUICK, None, Some(30)), Some(Duration::from_secs(30) - MARGIN));
    }
}
