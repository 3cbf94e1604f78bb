//! The header `tracestate`: vendor data of tracing systems, forwarded unchanged.
//!
//! See [W3C Trace Context](https://www.w3.org/TR/trace-context/).

use http::{HeaderMap, HeaderValue};

use super::trace::Trace;

/// Several header lines form one list.
const TRACESTATE: &str = "tracestate";

/// Reads `tracestate`. `None` without a valid `traceparent`, as the specification requires.
pub fn read_trace_state(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(TRACESTATE).iter();
    let first = lines.next()?;
    Trace::from_headers(headers)?;
    let list = lines.fold(first.as_bytes().to_vec(), |list, line| [&list, &b","[..], line.as_bytes()].concat());
    HeaderValue::from_bytes(&list).ok()
}

/// Writes `tracestate`, if there is one.
pub fn write_trace_state(headers: &mut HeaderMap, state: Option<&HeaderValue>) {
    if let Some(state) = state {
        headers.insert(TRACESTATE, state.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_state_is_one_list_and_needs_a_trace() {
        let mut headers = HeaderMap::new();
        headers.append("tracestate", "one=1".parse().unwrap());
        headers.append("tracestate", "two=2,three=3".parse().unwrap());
        assert_eq!(read_trace_state(&headers), None);
        Trace::begin().write(&mut headers);
        let state = read_trace_state(&headers).unwrap();
        assert_eq!(state, "one=1,two=2,three=3");
        let mut sent = HeaderMap::new();
        write_trace_state(&mut sent, Some(&state));
        assert_eq!(read_trace_state(&sent), None, "the headers have no traceparent");
        assert_eq!(sent["tracestate"], state);
    }
}
