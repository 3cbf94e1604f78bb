//! The header `grpc-timeout`: how long the caller waits.
//!
//! See [gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, sleep_until};
use tonic::{Code, Status};

use super::error::{DOMAIN, status};
use super::headers::insert_once;

static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Reads `grpc-timeout`; `None` if the header is absent.
///
/// # Errors
///
/// INVALID_ARGUMENT, reason `MALFORMED_TIMEOUT`. The caller must not retry unchanged.
pub fn read_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(&GRPC_TIMEOUT) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(parse_timeout);
    parsed.map(Some).ok_or_else(|| {
        let message = "grpc-timeout must be 1 to 8 digits and one of the units H, M, S, m, u, n";
        status(Code::InvalidArgument, DOMAIN, "MALFORMED_TIMEOUT", message)
    })
}

/// Writes `grpc-timeout`, rounded down to microseconds or, from 100 s, to milliseconds.
pub fn write_timeout(headers: &mut HeaderMap, timeout: Duration) {
    let (amount, unit) = match timeout.as_micros() {
        micros @ ..100_000_000 => (micros, 'u'),
        _ => (timeout.as_millis().min(99_999_999), 'm'),
    };
    insert_once::<9>(headers, &GRPC_TIMEOUT, format_args!("{amount}{unit}"));
}

/// The output of `future`; `None` if `deadline` passes first. The timer is made when the future is first pending: most
/// calls are answered before.
pub async fn within<F: Future>(deadline: Option<Instant>, mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut timer = None;
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        let Some(deadline) = deadline else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        timer.as_mut().poll(cx).map(|()| None)
    })
    .await
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
    use http::HeaderValue;

    #[test]
    fn timeout_round_trips() {
        for timeout in [Duration::ZERO, Duration::from_micros(1), Duration::from_secs(7), Duration::from_secs(80_000)] {
            let mut headers = HeaderMap::new();
            write_timeout(&mut headers, timeout);
            assert_eq!(read_timeout(&headers).unwrap(), Some(timeout));
        }
    }

    #[test]
    fn timeout_that_is_malformed_is_rejected() {
        for bad in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", "é"] {
            let mut headers = HeaderMap::new();
            headers.insert(&GRPC_TIMEOUT, HeaderValue::from_bytes(bad.as_bytes()).unwrap());
            assert_eq!(read_timeout(&headers).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
