//! The request body limit: bounds the bytes of all requests in flight and the time that a request takes to arrive.
//!
//! A limit for each message does not bound many messages, or a message that never ends (INV-13).
//!
//! Guarantees: a health check is never refused for the bytes of other requests.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use http::Response;

use super::answer::{Answer, Answered};
use super::arrival::{Limited, RequestBytes};
use super::health_service;
use super::request::Arrived;

/// The limit for all requests in flight, in bytes: 16 of the largest that artwork accepts by default.
pub(super) const MAX_BYTES_IN_FLIGHT: usize = 256 * 1024 * 1024;

/// The bytes of a health check, which has the name of a contract.
const OF_HEALTH_CHECK: usize = 1024;

/// Answers RESOURCE_EXHAUSTED to a request that would raise the bytes in flight above a limit.
pub(super) struct BodyLimit<N> {
    next: N,
    limit: usize,
    all: Arc<AtomicUsize>,
}

impl<N> BodyLimit<N> {
    pub(super) fn around(next: N, limit: usize) -> Self {
        Self { next, limit, all: Arc::default() }
    }
}

impl<N: Answer> Answer for BodyLimit<N> {
    async fn answer(&self, mut call: Arrived) -> Response<Answered> {
        let always = if call.method.service == health_service::NAME { OF_HEALTH_CHECK } else { 0 };
        let counted = Arc::new(RequestBytes::of(&self.all, self.limit, always));
        let limited = Limited::new(Arc::clone(&counted), call.method);
        call.request.body_mut().limit(limited);
        let response = self.next.answer(call).await;
        // The bytes count until the response: the handler keeps the message after it has read the body.
        drop(counted);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::*;
    use crate::call::Call;
    use crate::call::handler;
    use crate::call::tests::{CHECK, GET};
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Full};
    use tonic::body::Body;
    use tonic::{Code, Status};

    /// A message that takes so many bytes with its prefix.
    fn message(bytes: usize) -> Body {
        let [high, low] = u16::try_from(bytes - 5).unwrap().to_be_bytes();
        let mut message = vec![0, 0, 0, high, low];
        message.resize(bytes, 0);
        Body::new(Full::new(Bytes::from(message)))
    }

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
        let limited = boxed(BodyLimit::around(Services(read), 10));
        let send = |bytes: usize| limited(Call::to(GET, message(bytes)));
        let refused = |response: &Response<Body>| {
            Status::from_header_map(response.headers()).is_some_and(|status| status.code() == Code::ResourceExhausted)
        };

        let (first, second) = tokio::join!(send(6), send(6));
        assert!(!refused(&first) && refused(&second), "together they exceed the limit");
        assert!(!refused(&send(10).await), "both have ended");
        assert!(refused(&send(11).await));
    }

    #[tokio::test]
    async fn body_limit_refuses_no_health_check() {
        let read = handler(|call| async {
            match call.request.into_body().collect().await {
                Ok(_) => Response::new(Body::empty()),
                Err(status) => status.into_http(),
            }
        });
        let limited = boxed(BodyLimit::around(Services(read), 0));
        let refused = async |path: &str, bytes: usize| {
            let response = limited(Call::to(path, message(bytes))).await;
            Status::from_header_map(response.headers()).is_some()
        };
        assert!(refused(GET, 5).await);
        assert!(!refused(CHECK, OF_HEALTH_CHECK).await);
        assert!(refused(CHECK, OF_HEALTH_CHECK + 1).await, "a check is small");
    }

    #[tokio::test(start_paused = true)]
    async fn body_limit_bounds_the_arrival() {
        let read = handler(|call| async {
            let Err(status) = call.request.into_body().collect().await else { panic!("it arrived") };
            status.into_http()
        });
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        let silent = http_body_util::StreamBody::new(silent);
        let answer = boxed(BodyLimit::around(Services(read), 10))(Call::to(GET, Body::new(silent))).await;
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::DeadlineExceeded);
    }
}
