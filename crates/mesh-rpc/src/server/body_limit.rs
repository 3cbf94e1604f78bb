//! The request body limit: bounds the bytes of all requests in flight and the time that a request takes to arrive.
//!
//! A limit for each message does not bound many messages, or a message that never ends (INV-13).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::call::error::{DOMAIN, overloaded, status};
use crate::call::{Handler, handler};

/// The limit for all requests in flight, in bytes: 16 of the largest that artwork accepts by default.
pub(super) const MAX_BYTES_IN_FLIGHT: usize = 256 * 1024 * 1024;

/// The limit for the arrival of a request that is not a stream.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);

/// Answers RESOURCE_EXHAUSTED to a request that would raise the bytes in flight above `limit`.
pub(super) fn limit(next: Handler, limit: usize) -> Handler {
    let all = Arc::new(AtomicUsize::new(0));
    handler(move |call| {
        let counted = Arc::new(RequestBytes { bytes: AtomicUsize::new(0), all: Arc::clone(&all) });
        let arrival = (!call.method.client_streaming).then(|| Box::pin(sleep(ARRIVAL_LIMIT)));
        let limited = |body| Body::new(LimitedBody { body, limit, arrival, counted: Arc::clone(&counted) });
        let answering = next(call.map_body(limited));
        async move {
            let response = answering.await;
            // The bytes count until the response: the handler keeps the message after it has read the body.
            drop(counted);
            response
        }
    })
}

/// The bytes of one request.
struct RequestBytes {
    bytes: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Drop for RequestBytes {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

struct LimitedBody {
    body: Body,
    limit: usize,
    arrival: Option<Pin<Box<Sleep>>>,
    counted: Arc<RequestBytes>,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let arrived = match polled {
            // The client disconnected. Its stream is reset, which drops the call at once and records it as cancelled.
            Poll::Ready(frame) if !is_disconnect(&frame) => Some(frame),
            _ => None,
        };
        let Some(frame) = arrived else {
            let expired = self.arrival.as_mut().is_some_and(|arrival| arrival.as_mut().poll(cx).is_ready());
            return if expired { Poll::Ready(Some(Err(too_slow()))) } else { Poll::Pending };
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.counted.bytes.fetch_add(data.len(), Ordering::Relaxed);
            if self.counted.all.fetch_add(data.len(), Ordering::Relaxed) + data.len() > self.limit {
                let message = "the requests in flight exceed the limit of this instance";
                return Poll::Ready(Some(Err(overloaded(message, Duration::from_secs(1)))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use crate::call::tests::GET;
    use http::Response;
    use http_body_util::{BodyExt as _, Full};

    #[tokio::test]
    async fn body_limit_covers_all_requests_in_flight() {
        let read = handler(|call| async {
            match call.request.into_body().collect().await {
                Ok(_) => {
                    tokio::task::yield_now().await;
                    Response::new(Body::empty())
                }
                Err(status) => status.into_http(),
            }
        });
        let limited = limit(read, 10);
        let send = |bytes: usize| limited(Call::to(GET, Body::new(Full::new(Bytes::from(vec![0; bytes])))));
        let refused = |response: &Response<Body>| {
            Status::from_header_map(response.headers()).is_some_and(|status| status.code() == Code::ResourceExhausted)
        };

        let (first, second) = tokio::join!(send(6), send(6));
        assert!(!refused(&first) && refused(&second), "together they exceed the limit");
        assert!(!refused(&send(10).await), "both have ended");
        assert!(refused(&send(11).await));
    }

    #[tokio::test(start_paused = true)]
    async fn body_limit_bounds_the_arrival() {
        let read = handler(|call| async {
            let Err(status) = call.request.into_body().collect().await else { panic!("it arrived") };
            status.into_http()
        });
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        let silent = http_body_util::StreamBody::new(silent);
        let answer = limit(read, 10)(Call::to(GET, Body::new(silent))).await;
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::DeadlineExceeded);
    }
}
