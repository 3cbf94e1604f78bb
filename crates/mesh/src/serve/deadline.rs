//! Where a deadline is enforced: a call stops when the time its caller gave it is over, and answers DEADLINE_EXCEEDED.
//!
//! The caller says how long it waits in `grpc-timeout`; from here on that is a point in time, kept in the call's
//! [`Context`], from which calls to peers take what is left. Dropping the handler's future is what stops its work, down
//! to the statement it has at the database. A stream is ended, too: tonic's own timeout covers its head only.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{Code, Status};

use super::stack::{Handler, handler};
use crate::body::EndedBy;
use crate::context::{Context, Trace};
use crate::error::{DOMAIN, status};

/// The header that says how long the caller waits:
/// [gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
const GRPC_TIMEOUT: &str = "grpc-timeout";

/// Enforces the deadline of every call that comes through, and tells the handler of it.
pub(crate) fn enforce(next: Handler) -> Handler {
    handler(move |request| {
        let timeout = read_timeout(request.headers());
        let trace = request.extensions().get().copied().unwrap_or_else(Trace::begin);
        let next = next.clone();
        async move {
            let deadline = match timeout {
                Ok(timeout) => timeout.map(|timeout| Instant::now() + timeout),
                Err(status) => return status.into_http(),
            };
            let context = Context { deadline, trace };
            let answering = async { context.scope(next(request)).await.map(|body| context.scope_body(body)) };
            let Some(deadline) = deadline else { return answering.await };
            match timeout_at(deadline, answering).await {
                Ok(response) => response.map(|body| {
                    EndedBy::wrap(body, async move {
                        sleep_until(deadline).await;
                        exceeded()
                    })
                }),
                Err(_) => exceeded().into_http(),
            }
        }
    })
}

/// DEADLINE_EXCEEDED. Whether the work was done is not known; only an idempotent call may be tried again.
pub(crate) fn exceeded() -> Status {
    status(Code::DeadlineExceeded, DOMAIN, "DEADLINE_EXCEEDED", "the caller's deadline is over")
}

/// Reads `grpc-timeout`; `None` if the caller did not send one.
pub(crate) fn read_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(GRPC_TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| {
        let message = "grpc-timeout must be 1 to 8 digits and one of the units H, M, S, m, u, n";
        status(Code::InvalidArgument, DOMAIN, "MALFORMED_TIMEOUT", message)
    })
}

/// Writes `grpc-timeout`, rounded down: a hop never promises more time than there is.
pub(crate) fn write_timeout(headers: &mut HeaderMap, timeout: Duration) {
    let text = if timeout.as_micros() < 100_000_000 {
        format!("{}u", timeout.as_micros())
    } else {
        format!("{}m", timeout.as_millis().min(99_999_999))
    };
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let all_digits = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let amount: u64 = if all_digits { digits.parse().ok()? } else { return None };
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use tonic::body::Body;

    fn request(timeout: &str) -> Request<Body> {
        Request::builder().header(GRPC_TIMEOUT, timeout).body(Body::empty()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_takes_too_long_is_dropped_and_answered_for() {
        struct Dropped(tokio::sync::mpsc::UnboundedSender<()>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let (sender, mut dropped) = tokio::sync::mpsc::unbounded_channel();
        let enforced = enforce(handler(move |_| {
            let guard = Dropped(sender.clone());
            async move {
                let _guard = guard;
                std::future::pending().await
            }
        }));
        let start = Instant::now();
        let response = enforced(request("250m")).await;
        assert_eq!(start.elapsed(), Duration::from_millis(250));
        assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::DeadlineExceeded);
        assert!(dropped.try_recv().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_ended_at_its_deadline() {
        let enforced = enforce(handler(|_| async { Response::new(Body::new(Silent)) }));
        let start = Instant::now();
        let response = enforced(request("3S")).await;
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        let status = Status::from_header_map(collected.trailers().unwrap()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }

    #[tokio::test(start_paused = true)]
    async fn the_handler_sees_what_is_left() {
        let enforced = enforce(handler(|_| async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(Context::current().remaining(), Some(Duration::from_millis(700)));
            Response::new(Body::empty())
        }));
        enforced(request("1S")).await;
    }

    #[test]
    fn timeouts_are_written_so_that_they_are_read_again() {
        for timeout in [Duration::ZERO, Duration::from_micros(1), Duration::from_secs(7), Duration::from_secs(80_000)] {
            let mut headers = HeaderMap::new();
            write_timeout(&mut headers, timeout);
            assert_eq!(read_timeout(&headers).unwrap(), Some(timeout));
        }
    }

    #[test]
    fn a_malformed_timeout_is_refused() {
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", "é"] {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(read_timeout(&headers).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    /// The body of a stream that never says anything.
    struct Silent;
    impl http_body::Body for Silent {
        type Data = bytes::Bytes;
        type Error = Status;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Status>>> {
            std::task::Poll::Pending
        }
    }
}
