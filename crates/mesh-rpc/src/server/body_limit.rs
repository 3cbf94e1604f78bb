//! Bounds the bytes of all requests in flight, and the time that one may take to arrive: a limit for each message does
//! not help against many of them, nor against those that never end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::call::error::{DOMAIN, overloaded, status};
use crate::call::{Handler, handler};

/// Sixteen of the largest requests that the example takes, and as many of usual size as anybody sends.
pub(super) const IN_FLIGHT: usize = 256 * 1024 * 1024;

/// How long a request may take to arrive, unless it is a stream.
const ARRIVAL: Duration = Duration::from_secs(60);

/// Refuses what would bring the bytes of all requests in flight above `limit`.
pub(super) fn bound(next: Handler, limit: usize) -> Handler {
    let all = Arc::new(AtomicUsize::new(0));
    handler(move |call| {
        let held = Arc::new(Held { bytes: AtomicUsize::new(0), all: Arc::clone(&all) });
        let late = (!call.method.client_streaming).then(|| Box::pin(sleep(ARRIVAL)));
        let counted = |body| Body::new(Counted { body, limit, late, held: Arc::clone(&held) });
        let answering = next(call.map_body(counted));
        async move {
            let response = answering.await;
            // Until here: a message lives on in its handler after its body has been read.
            drop(held);
            response
        }
    })
}

/// What one request holds.
struct Held {
    bytes: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

struct Counted {
    body: Body,
    limit: usize,
    late: Option<Pin<Box<Sleep>>>,
    held: Arc<Held>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let arrived = match polled {
            // There is nobody to be told, and nothing that went wrong here: the call is dropped with its stream at
            // once, and is counted as what it is, cancelled.
            Poll::Ready(frame) if !broke_off(&frame) => Some(frame),
            _ => None,
        };
        let Some(frame) = arrived else {
            let late = self.late.as_mut().is_some_and(|late| late.as_mut().poll(cx).is_ready());
            return if late { Poll::Ready(Some(Err(too_slow()))) } else { Poll::Pending };
        };
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.held.bytes.fetch_add(data.len(), Ordering::Relaxed);
            if self.held.all.fetch_add(data.len(), Ordering::Relaxed) + data.len() > self.limit {
                let message = "the requests in flight are too large together";
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

/// Whether the caller went away before its request had arrived.
fn broke_off(frame: &Option<Result<Frame<Bytes>, Status>>) -> bool {
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
    async fn what_is_too_much_together_is_refused_and_what_ended_does_not_count() {
        let read = handler(|call| async {
            match call.request.into_body().collect().await {
                Ok(_) => {
                    tokio::task::yield_now().await;
                    Response::new(Body::empty())
                }
                Err(status) => status.into_http(),
            }
        });
        let bounded = bound(read, 10);
        let send = |bytes: usize| bounded(Call::to(GET, Body::new(Full::new(Bytes::from(vec![0; bytes])))));
        let refused = |response: &Response<Body>| {
            Status::from_header_map(response.headers()).is_some_and(|status| status.code() == Code::ResourceExhausted)
        };

        let (first, second) = tokio::join!(send(6), send(6));
        assert!(!refused(&first) && refused(&second), "together they are too much");
        assert!(!refused(&send(10).await), "both have ended");
        assert!(refused(&send(11).await));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_arrive_is_not_waited_for() {
        let read = handler(|call| async {
            let Err(status) = call.request.into_body().collect().await else { panic!("it arrived") };
            status.into_http()
        });
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        let silent = http_body_util::StreamBody::new(silent);
        let answer = bound(read, 10)(Call::to(GET, Body::new(silent))).await;
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::DeadlineExceeded);
    }
}
