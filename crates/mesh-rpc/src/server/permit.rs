//! The admission of a request: it waits for a permit before its end.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::timeout;
use tonic::Status;

use super::permits::{Permit, Permits};
use crate::call::error::overloaded;
use crate::call::{Context, Method};
use crate::telemetry::Metrics;

/// The longest wait for a permit: longer than a burst of calls, shorter than a caller waits.
pub(super) const PERMIT_WAIT: Duration = Duration::from_millis(50);
/// The wait is at most this fraction of the remaining time.
const DEADLINE_SHARE: u32 = 4;

/// Lets a request end only once its call has a permit. A handler starts after it has read the end. A request that fails
/// to decode needs no permit.
pub(super) struct Admission {
    calls: Arc<Permits>,
    /// Holds the permit during the call.
    permit: Arc<OnceLock<Permit>>,
    method: &'static Method,
    metrics: Arc<Metrics>,
    arrival: Arrival,
}

type PendingPermit = Pin<Box<dyn Future<Output = Option<Permit>> + Send>>;
type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

enum Arrival {
    Receiving,
    /// The request has arrived. Holds its trailers, if there are any.
    Acquiring(PendingPermit, Option<Frame<Bytes>>),
    Done,
}

impl Admission {
    /// The permit of `calls` is put into `permit`, which the caller keeps until the response.
    pub(super) fn new(
        calls: Arc<Permits>,
        permit: Arc<OnceLock<Permit>>,
        method: &'static Method,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { calls, permit, method, metrics, arrival: Arrival::Receiving }
    }

    /// Whether the request has ended.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.arrival, Arrival::Done)
    }

    /// Polls the body, and at its end for the permit.
    pub(super) fn poll(
        &mut self,
        body: impl FnOnce(&mut task::Context<'_>) -> Polled,
        cx: &mut task::Context<'_>,
    ) -> Polled {
        if matches!(self.arrival, Arrival::Receiving) {
            let last = match ready!(body(cx)) {
                Some(Ok(trailers)) if trailers.is_trailers() => Some(trailers),
                Some(frame) => return Poll::Ready(Some(frame)),
                None => None,
            };
            if let Some(permit) = self.calls.try_take() {
                return self.admitted(Some(permit), last);
            }
            self.arrival = Arrival::Acquiring(Box::pin(acquire(Arc::clone(&self.calls))), last);
        }
        let Arrival::Acquiring(pending, last) = &mut self.arrival else { return Poll::Ready(None) };
        let permit = ready!(pending.as_mut().poll(cx));
        let last = last.take();
        self.admitted(permit, last)
    }

    fn admitted(&mut self, permit: Option<Permit>, last: Option<Frame<Bytes>>) -> Polled {
        self.arrival = Arrival::Done;
        let Some(permit) = permit else {
            return Poll::Ready(Some(Err(refused(self.method, &self.metrics))));
        };
        // A request arrives once: the cell is empty.
        let _ = self.permit.set(permit);
        Poll::Ready(last.map(Ok))
    }
}

/// Waits for a permit; `None` after the longest wait.
async fn acquire(calls: Arc<Permits>) -> Option<Permit> {
    let remaining = Context::current().remaining();
    let wait = remaining.map_or(PERMIT_WAIT, |remaining| PERMIT_WAIT.min(remaining / DEADLINE_SHARE));
    timeout(wait, calls.take()).await.ok()
}

/// RESOURCE_EXHAUSTED, reason `OVERLOADED`. The random delay spreads the retries of callers that were refused together.
pub(super) fn refused(method: &'static Method, metrics: &Metrics) -> Status {
    metrics.shed(method);
    let delay = Duration::from_millis(fastrand::u64(200..600));
    overloaded("this instance is overloaded", delay)
}
