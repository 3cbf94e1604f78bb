//! The arrival of a request: what it takes of memory and time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};

use crate::call::error::{DOMAIN, overloaded, status};

/// The limit for the arrival of a request that is not a stream.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);

/// The bytes of one request.
pub(super) struct RequestBytes {
    bytes: AtomicUsize,
    /// Those of all requests, and their limit.
    all: Arc<AtomicUsize>,
    limit: usize,
    /// How many the request may have whatever the others have.
    always: usize,
}

impl RequestBytes {
    /// No bytes yet. `limit` is the limit of `all`. The first `always` bytes are not refused.
    pub(super) fn of(all: &Arc<AtomicUsize>, limit: usize, always: usize) -> Self {
        Self { bytes: AtomicUsize::new(0), all: Arc::clone(all), limit, always }
    }

    fn add(&self, bytes: usize) -> bool {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.limit || own <= self.always
    }
}

impl Drop for RequestBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// What a request may take of memory and time.
pub(super) struct Limited {
    timed: bool,
    /// The end of the time. `None` until something has to be waited for.
    expiry: Option<Pin<Box<Sleep>>>,
    counted: Arc<RequestBytes>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

impl Limited {
    pub(super) fn new(counted: Arc<RequestBytes>, timed: bool) -> Self {
        Self { timed, expiry: None, counted }
    }

    /// What the body yields within its limits.
    pub(super) fn observe(&mut self, polled: Polled, cx: &mut task::Context<'_>) -> Polled {
        match polled {
            // The stream is reset, which drops the call at once and records it as cancelled.
            Poll::Ready(frame) if !is_reset(&frame) => Poll::Ready(self.count(frame)),
            _ => self.wait(cx),
        }
    }

    fn count(&self, frame: Option<Result<Frame<Bytes>, Status>>) -> Option<Result<Frame<Bytes>, Status>> {
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && !self.counted.add(data.len())
        {
            let message = "the requests in flight exceed the limit of this instance";
            return Some(Err(overloaded(message, Duration::from_secs(1))));
        }
        frame
    }

    fn wait(&mut self, cx: &mut task::Context<'_>) -> Polled {
        if !self.timed {
            return Poll::Pending;
        }
        let expiry = self.expiry.get_or_insert_with(|| Box::pin(sleep(ARRIVAL_LIMIT)));
        expiry.as_mut().poll(cx).map(|()| Some(Err(too_slow())))
    }
}

/// Whether the stream of the request was reset before it had arrived. HTTP/1.1 has no streams: there, the body must not end
/// as if it were whole.
fn is_reset(frame: &Option<Result<Frame<Bytes>, Status>>) -> bool {
    let Some(Err(status)) = frame else { return false };
    let cause = std::error::Error::source(status).filter(|cause| cause.is::<hyper::Error>());
    cause.and_then(|cause| cause.source()).is_some_and(|cause| cause.is::<h2::Error>())
}

fn too_slow() -> Status {
    status(Code::DeadlineExceeded, DOMAIN, "REQUEST_TOO_SLOW", "the request took more than a minute to arrive")
}
