//! What travels with a call: until when it is wanted, and which trace it belongs to.
//!
//! The server's layers put a [`Context`] around the handler; [`crate::channel`] reads it when the handler calls a peer,
//! and so a deadline and a trace reach the last hop without a service ever passing them on. It is a task-local on
//! purpose: work that a handler spawns outlives the call, and must not inherit a deadline that was meant for it.

use std::fmt;
use std::pin::Pin;
use std::task;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::error::{DOMAIN, status};

tokio::task_local! {
    static CURRENT: Context;
}

/// What travels with a call.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// When the caller stops waiting; `None` if it never said.
    pub deadline: Option<Instant>,
    /// Which trace the call belongs to.
    pub trace: Trace,
    /// What tracing systems have noted of that trace for themselves. It is passed on as it came.
    pub(crate) trace_state: Option<HeaderValue>,
}

impl Context {
    /// The context of the call that this task is handling; empty outside of one.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// How much time is left, if there is a limit.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The same for what a handler streams.
    pub(crate) fn scope_body(self, body: Body) -> Body {
        Body::new(Scoped { context: self, body })
    }
}

/// A place in a trace, as [W3C Trace Context](https://www.w3.org/TR/trace-context/) writes it in `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub(crate) trace_id: u128,
    pub(crate) span_id: u64,
    /// Whether the spans of this trace are wanted: who begins it decides, and everybody behind follows.
    pub(crate) sampled: bool,
}

/// The header that carries a [`Trace`].
const TRACEPARENT: &str = "traceparent";

impl Trace {
    /// A trace that begins here.
    pub fn begin() -> Self {
        // Neither need be a secret, and nearly every call makes one: no reason to ask the operating system. Zero is none.
        Self { trace_id: fastrand::u128(1..), span_id: random_span_id(), sampled: true }
    }

    /// The next span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: random_span_id(), ..self }
    }

    /// Where the caller is in a trace; `None` if it says nothing that can be read.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(TRACEPARENT).and_then(|value| Self::parse(value.to_str().ok()?))
    }

    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        insert_once(headers, TRACEPARENT, self.to_string());
    }

    /// The part that all spans of a trace share, for a log.
    pub(crate) fn trace_id(&self) -> impl fmt::Display {
        let trace_id = self.trace_id;
        fmt::from_fn(move |f| write!(f, "{trace_id:032x}"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may add parts behind these four; version 00 may not, and ff is never valid.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = Self {
            trace_id: hexadecimal(trace_id, 32)?,
            span_id: hexadecimal(span_id, 16)? as u64,
            sampled: hexadecimal(flags, 2)? & 1 == 1,
        };
        hexadecimal(version, 2)?;
        (trace.trace_id != 0 && trace.span_id != 0).then_some(trace)
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::begin()
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// The header beside `traceparent`; it may come in several lines, which are one list.
const TRACESTATE: &str = "tracestate";

/// Reads `tracestate`, which means nothing without a `traceparent` that can be read.
pub(crate) fn read_trace_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(TRACESTATE).iter();
    let first = lines.next()?;
    Trace::from_headers(headers)?;
    let list = lines.fold(first.as_bytes().to_vec(), |list, line| [&list, &b","[..], line.as_bytes()].concat());
    HeaderValue::from_bytes(&list).ok()
}

/// Writes `tracestate` as it was read.
pub(crate) fn write_trace_state(headers: &mut HeaderMap, state: Option<&HeaderValue>) {
    if let Some(state) = state {
        headers.insert(TRACESTATE, state.clone());
    }
}

/// The header that says how long the caller waits:
/// [gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
const GRPC_TIMEOUT: &str = "grpc-timeout";

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
    insert_once(headers, GRPC_TIMEOUT, text);
}

/// A header that is another one with every call. Marked as what HTTP/2 calls sensitive it is not put into the table of
/// the connection's recent headers, from which it would only drive those that come again.
fn insert_once(headers: &mut HeaderMap, name: &'static str, value: String) {
    // Digits, letters and dashes only: always a valid header.
    if let Ok(mut value) = HeaderValue::try_from(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
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

fn hexadecimal(text: &str, length: usize) -> Option<u128> {
    let lower_case = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == length && lower_case { u128::from_str_radix(text, 16).ok() } else { None }
}

fn random_span_id() -> u64 {
    fastrand::u64(1..)
}

/// A body that is made within a context.
struct Scoped {
    context: Context,
    body: Body,
}

impl http_body::Body for Scoped {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>> {
        let Self { context, body } = &mut *self;
        CURRENT.sync_scope(context.clone(), || Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_carried_on_unchanged_and_its_span_is_not() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::parse(text).unwrap();
        assert_eq!(trace.to_string(), text);
        let child = trace.child();
        assert_eq!(child.trace_id, trace.trace_id);
        assert_ne!(child.span_id, trace.span_id);
    }

    #[test]
    fn what_cannot_be_read_begins_a_new_trace() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_tracing_systems_have_noted_is_one_list_beside_a_trace() {
        let mut headers = HeaderMap::new();
        headers.append("tracestate", "one=1".parse().unwrap());
        headers.append("tracestate", "two=2,three=3".parse().unwrap());
        assert_eq!(read_trace_state(&headers), None);
        Trace::begin().write(&mut headers);
        let state = read_trace_state(&headers).unwrap();
        assert_eq!(state, "one=1,two=2,three=3");
        let mut sent = HeaderMap::new();
        write_trace_state(&mut sent, Some(&state));
        assert_eq!(read_trace_state(&sent), None, "it was not sent with a trace");
        assert_eq!(sent["tracestate"], state);
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

    #[tokio::test]
    async fn spawned_work_does_not_inherit_the_deadline() {
        let context = Context { deadline: Some(Instant::now()), ..Context::default() };
        context
            .scope(async {
                assert!(Context::current().deadline.is_some());
                let spawned = tokio::spawn(async { Context::current().deadline });
                assert!(spawned.await.unwrap().is_none());
            })
            .await;
    }
}
