//! The position of a call in a trace, as the header `traceparent` carries it.
//!
//! See [W3C Trace Context](https://www.w3.org/TR/trace-context/).

use std::fmt;

use http::{HeaderMap, HeaderName};

use super::headers::insert_once;

/// A position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The id that all spans of the trace share. Not zero.
    pub trace_id: u128,
    /// The id of the span that is the parent of a peer's spans. Not zero.
    pub span_id: u64,
    /// Whether the spans of the trace are exported. The first hop decides it for all hops.
    pub sampled: bool,
}

/// The header that carries a [`Trace`].
static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

impl Trace {
    /// Starts a new trace.
    pub fn begin() -> Self {
        // Ids are not secret and nearly every call draws one: a fast generator suffices. The specification forbids
        // zero.
        Self { trace_id: fastrand::u128(1..), span_id: random_span_id(), sampled: true }
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: random_span_id(), ..self }
    }

    /// The position of the caller; `None` if the header is absent or malformed.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(&TRACEPARENT).and_then(|value| Self::parse(value.to_str().ok()?))
    }

    /// Writes the header `traceparent`.
    pub fn write(&self, headers: &mut HeaderMap) {
        insert_once::<55>(headers, &TRACEPARENT, format_args!("{self}"));
    }

    /// The trace id in hexadecimal digits, for a log.
    pub fn trace_id(&self) -> impl fmt::Display {
        let trace_id = self.trace_id;
        fmt::from_fn(move |f| write!(f, "{trace_id:032x}"))
    }

    /// Parses the text of the header `traceparent`, as `Display` writes it; `None` if it is malformed.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace_id, span_id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // Versions after 00 may append parts to these four; version 00 may not. Version ff is invalid.
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

fn hexadecimal(text: &str, length: usize) -> Option<u128> {
    let lower_case = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == length && lower_case { u128::from_str_radix(text, 16).ok() } else { None }
}

fn random_span_id() -> u64 {
    fastrand::u64(1..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_child_keeps_the_trace_and_changes_the_span() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Trace::parse(text).unwrap();
        assert_eq!(trace.to_string(), text);
        let child = trace.child();
        assert_eq!(child.trace_id, trace.trace_id);
        assert_ne!(child.span_id, trace.span_id);
    }

    #[test]
    fn trace_parse_follows_the_specification() {
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
}
