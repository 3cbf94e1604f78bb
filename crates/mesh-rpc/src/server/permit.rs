//! A request body that waits for a concurrency permit before its end.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use crate::call::error::overloaded;
use crate::call::{Context, Method};
use crate::telemetry::Metrics;

/// The longest wait for a permit: longer than a burst of calls, shorter than a caller waits.
pub(super) const PERMIT_WAIT: Duration = Duration::from_millis(50);
/// The wait is at most this fraction of the remaining time.
const DEADLINE_SHARE: u32 = 4;

/// A request body that reports its end only once the call has a permit. A handler starts after it has read the end. A
/// request that fails to decode needs no permit.
pub(super) struct PermitBody {
    body: Body,
    calls: Arc<Semaphore>,
    /// Holds the permit during the call.
    permit: Arc<OnceLock<OwnedSemaphorePermit>>,
    method: &'static Method,
    metrics: Arc<Metrics>,
    arrival: Arrival,
}

impl PermitBody {
    /// Wraps `body`. The permit of `calls` is put into `permit`, which the caller keeps until the response.
    pub(super) fn new(
        body: Body,
        calls: Arc<Semaphore>,
        permit: Arc<OnceLock<OwnedSemaphorePermit>>,
        method: &'static Method,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { body, calls, permit, method, metrics, arrival: Arrival::Receiving }
    }
}

type PendingPermit = Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>;

enum Arrival {
    Receiving,
    /// The request has arrived. Holds its trailers, if there are any.
    Acquiring(PendingPermit, Option<Frame<Bytes>>),
    Done,
}

impl http_body::Body for PermitBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            let this = &mut *self;
            match &mut this.arrival {
                Arrival::Receiving => {
                    let last = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                        Some(Ok(trailers)) if trailers.is_trailers() => Some(trailers),
                        Some(frame) => return Poll::Ready(Some(frame)),
                        None => None,
                    };
                    this.arrival = Arrival::Acquiring(Box::pin(acquire(Arc::clone(&this.calls))), last);
                }
                Arrival::Acquiring(pending, last) => {
                    let permit = ready!(pending.as_mut().poll(cx));
                    let last = last.take();
                    this.arrival = Arrival::Done;
                    let Some(permit) = permit else {
                        return Poll::Ready(Some(Err(refused(this.method, &this.metrics))));
                    };
                    // A request arrives once: the cell is empty.
                    let _ = this.permit.set(permit);
                    return Poll::Ready(last.map(Ok));
                }
                Arrival::Done => return Poll::Ready(None),
            }
        }
    }

    /// False until the call has a permit. Otherwise the handler would start without one.
    fn is_end_stream(&self) -> bool {
        matches!(self.arrival, Arrival::Done)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Waits for a permit; `None` after the longest wait.
async fn acquire(calls: Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    let remaining = Context::current().remaining();
    let wait = remaining.map_or(PERMIT_WAIT, |remaining| PERMIT_WAIT.min(remaining / DEADLINE_SHARE));
    timeout(wait, calls.acquire_owned()).await.ok()?.ok()
}

/// RESOURCE_EXHAUSTED, reason `OVERLOADED`. The random delay spreads the retries of callers that were refused together.
pub(super) fn refused(method: &'static Method, metrics: &Metrics) -> Status {
    metrics.shed(method);
    let delay = Duration::from_millis(fastrand::u64(200..600));
    overloaded("this instance is overloaded", delay)
}
