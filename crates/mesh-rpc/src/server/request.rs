//! The request body that the server's layers share: it counts, decompresses and waits for a permit in one `poll_frame`.

use std::pin::Pin;
use std::task::{self, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::arrival::Limited;
use super::permit::Admission;
use crate::call::Call;

/// A call on its way through the layers: boxed once, because each layer would move it to the next one otherwise.
pub(super) type Arrived = Box<Call<Arriving>>;

/// Begins the way of a call through the layers.
pub(super) fn arrived(call: Call) -> Arrived {
    Box::new(call.map_body(Arriving::from))
}

/// The body of a request that arrives.
pub(super) struct Arriving {
    body: Body,
    limited: Option<Limited>,
    admission: Option<Admission>,
}

impl From<Body> for Arriving {
    fn from(body: Body) -> Self {
        Self { body, limited: None, admission: None }
    }
}

impl Arriving {
    /// Bounds its bytes and its time.
    pub(super) fn limit(&mut self, limited: Limited) {
        self.limited = Some(limited);
    }

    /// Waits for a permit before its end.
    pub(super) fn admit(&mut self, admission: Admission) {
        self.admission = Some(admission);
    }

    /// Changes the bytes that have been counted.
    pub(super) fn decoded(self, decode: impl FnOnce(Body) -> Body) -> Self {
        Self::from(decode(Body::new(self)))
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, limited, admission } = &mut *self;
        let poll = |cx: &mut task::Context<'_>| {
            let polled = Pin::new(body).poll_frame(cx);
            match limited {
                Some(limited) => limited.observe(polled, cx),
                None => polled,
            }
        };
        match admission {
            Some(admission) => admission.poll(poll, cx),
            None => poll(cx),
        }
    }

    /// False until the call has a permit, and until it has a message. Otherwise the handler would start without one.
    fn is_end_stream(&self) -> bool {
        match &self.admission {
            Some(admission) => admission.is_over(),
            None => self.body.is_end_stream() && !self.limited.as_ref().is_some_and(Limited::awaits_end),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
