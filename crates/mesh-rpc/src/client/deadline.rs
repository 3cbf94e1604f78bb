//! Until when the answer to a call is of use.
//!
//! What the caller asks for, or what is left of the call that it is itself serving less a margin, whichever comes first;
//! without either, what the contract says, and without that, what the process is configured with. A stream has a
//! deadline only if somebody has set one. What is left travels to the peer in `grpc-timeout`. The peer enforces it as
//! well; here it is enforced for the peer that does not answer.

use std::time::Duration;

use http::{Request, Response};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::call::body::take_until;
use crate::call::error::exceeded;
use crate::call::{Context, Method, read_timeout, write_timeout};

/// Kept back at every hop, so that whoever gives up first is the last one, and what it says still arrives at the others.
const MARGIN: Duration = Duration::from_millis(5);

/// When the answer to a call is of no use any more; `None` for a stream that may go on for ever.
#[derive(Clone, Copy, Default)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// That of `request`, which is made while serving a call in `context`.
    ///
    /// # Errors
    ///
    /// Its `grpc-timeout` cannot be read.
    pub fn of(
        request: &Request<Body>,
        method: &Method,
        context: &Context,
        configured: Duration,
    ) -> Result<Self, Status> {
        let asked = read_timeout(request.headers())?;
        let left = context.remaining().map(|left| left.saturating_sub(MARGIN));
        let stream = method.client_streaming || method.server_streaming;
        let default = (!stream).then(|| method.default_deadline.unwrap_or(configured));
        let budget = asked.into_iter().chain(left).min().or(default);
        Ok(Self(budget.map(|budget| Instant::now() + budget)))
    }

    /// What is left, if there is a limit.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Whether no time is left.
    pub fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    /// Tells the peer what is left now.
    pub fn write(self, request: &mut Request<Body>) {
        if let Some(left) = self.left() {
            write_timeout(request.headers_mut(), left);
        }
    }

    /// The answer, or DEADLINE_EXCEEDED: never CANCELLED, nor whatever else it looks like from where time ran out.
    pub async fn enforce(self, answering: impl Future<Output = Response<Body>>) -> Response<Body> {
        let Some(until) = self.0 else { return answering.await };
        match timeout_at(until, answering).await {
            Ok(response) if self.is_over() && failed(&response) => exceeded().into_http(),
            Ok(response) => response,
            Err(_) => exceeded().into_http(),
        }
    }

    /// The same for what comes behind the head of an answer.
    pub fn enforce_body(self, body: Body) -> Body {
        let Some(until) = self.0 else { return body };
        take_until(body, async move {
            sleep_until(until).await;
            exceeded()
        })
    }
}

fn failed(response: &Response<Body>) -> bool {
    Status::from_header_map(response.headers()).is_some_and(|status| status.code() != Code::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{IdempotencyLevel, Methods};

    const CALL: &str = "/google.longrunning.Operations/GetOperation";

    /// One whose contract says how long its answer is of use.
    static QUICK: Method = Method {
        service: "test.v1.TestService",
        name: "Quick",
        idempotency: IdempotencyLevel::NoSideEffects,
        default_deadline: Some(Duration::from_secs(2)),
        client_streaming: false,
        server_streaming: false,
    };

    /// What is left at the start of a call to a path that asks for so much, in a context with so much left.
    fn budget(path: &str, asked: Option<&str>, left: Option<u64>) -> Option<Duration> {
        budget_of(Methods::of(&[]).find(path), asked, left)
    }

    fn budget_of(method: &Method, asked: Option<&str>, left: Option<u64>) -> Option<Duration> {
        let mut request = Request::new(Body::empty());
        if let Some(asked) = asked {
            request.headers_mut().insert("grpc-timeout", asked.parse().unwrap());
        }
        let deadline = left.map(|left| Instant::now() + Duration::from_secs(left));
        let context = Context { deadline, ..Context::default() };
        Deadline::of(&request, method, &context, Duration::from_secs(10)).unwrap().left()
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_gets_what_the_contract_says_or_the_configuration() {
        assert_eq!(budget_of(&QUICK, None, None), Some(Duration::from_secs(2)));
        assert_eq!(budget(CALL, None, None), Some(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_has_a_deadline_only_if_somebody_sets_one() {
        let watch = "/mesh.operations.v1.OperationEventsService/Watch";
        assert_eq!(budget(watch, None, None), None);
        assert_eq!(budget(watch, Some("1H"), None), Some(Duration::from_secs(3600)));
        assert_eq!(budget(watch, None, Some(60)), Some(Duration::from_secs(60) - MARGIN));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_the_call_being_served_bounds_what_is_asked_for() {
        assert_eq!(budget(CALL, Some("1H"), Some(2)), Some(Duration::from_secs(2) - MARGIN));
        assert_eq!(budget(CALL, Some("500m"), Some(2)), Some(Duration::from_millis(500)));
        // More than the default, if that is what there is.
        assert_eq!(budget_of(&QUICK, None, Some(30)), Some(Duration::from_secs(30) - MARGIN));
    }
}
