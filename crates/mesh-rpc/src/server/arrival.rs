//! The arrival of a request: what it takes of memory and time, and that it is one message.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use tokio::time::{Sleep, sleep};
use tonic::{Code, Status};

use super::one_message::OneMessage;
use crate::call::error::{DOMAIN, overloaded, status};
use crate::call::{Method, Protocol};

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
    /// `None`: a stream, or a request of no contract.
    one: Option<OneMessage>,
    /// Whether it is HTTP that passes on to an app, which has to see that a body breaks off.
    plain: bool,
    /// Whether the client has disconnected.
    broken: bool,
}

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

impl Limited {
    pub(super) fn new(counted: Arc<RequestBytes>, method: &Method) -> Self {
        let (timed, plain) = (!method.client_streaming, method.protocol == Protocol::Http);
        let one = (timed && !plain && method.is_known()).then(OneMessage::default);
        Self { timed, expiry: None, counted, one, plain, broken: false }
    }

    /// What the body yields within its limits.
    pub(super) fn observe(&mut self, polled: Polled, cx: &mut task::Context<'_>) -> Polled {
        match polled {
            Poll::Ready(frame) if !self.broken && (self.plain || !is_disconnect(&frame)) => {
                Poll::Ready(self.count(frame))
            }
            Poll::Ready(_) => {
                // The client disconnected, which drops the call at once and records it as cancelled. Until then the
                // body must not end as if it were whole, which it does at the next look.
                self.broken = true;
                self.wait(cx)
            }
            Poll::Pending => self.wait(cx),
        }
    }

    /// Whether it has to see the end of the body, which may have none of the message.
    pub(super) fn awaits_end(&self) -> bool {
        self.one.as_ref().is_some_and(|one| !one.has_begun())
    }

    fn count(&mut self, frame: Option<Result<Frame<Bytes>, Status>>) -> Option<Result<Frame<Bytes>, Status>> {
        let data = match &frame {
            Some(Ok(frame)) => frame.data_ref(),
            Some(Err(_)) => return frame,
            None => None,
        };
        if data.is_some_and(|data| !self.counted.add(data.len())) {
            let message = "the requests in flight exceed the limit of this instance";
            return Some(Err(overloaded(message, Duration::from_secs(1))));
        }
        let checked = self.one.as_mut().map(|one| match data {
            Some(data) => one.take(data),
            None => one.end(),
        });
        match checked {
            Some(Err(status)) => Some(Err(status)),
            _ => frame,
        }
    }

    fn wait(&mut self, cx: &mut task::Context<'_>) -> Polled {
        if !self.timed {
            return Poll::Pending;
        }
        let expiry = self.expiry.get_or_insert_with(|| Box::pin(sleep(ARRIVAL_LIMIT)));
        expiry.as_mut().poll(cx).map(|()| Some(Err(too_slow())))
    }
}

/// Whether the client disconnected before its request arrived.
fn is_disconnect(frame: &Option<Result<Frame<Bytes>, Status>>) -> bool {
    let Some(Err(status)) = frame else { return false };
    std::error::Error::source(status).is_some_and(|cause| cause.is::<hyper::Error>())
}

fn too_slow() -> Status {
    status(Code::DeadlineExceeded, DOMAIN, "REQUEST_TOO_SLOW", "the request took more than a minute to arrive")
}
