//! The cause of what a call does, as the header `mesh-cause` carries it between services.
//!
//! Events cause calls and work, which publish further events. All of them share a correlation, and each event names the
//! one that caused it. A call that nothing caused needs no header: its correlation is its trace.
//!
//! Does not: cross the edge or the gateway. Callers outside of the mesh cannot set a cause.
//!
//! See: decision 0037, and docs/CONTRACTS.md, "Causes"

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use http::{HeaderMap, HeaderName};
use uuid::Uuid;

use super::headers::insert_once;
use super::trace::Trace;

/// The cause of what a call or an attempt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The id that everything of the same first cause shares.
    pub correlation: Uuid,
    /// The id of the event that is the cause; `None` if it is a call from outside.
    pub causation: Option<Uuid>,
    /// The number of events in the chain up to this cause, and so the `hops` of an event that it publishes.
    pub hops: u32,
}

/// The header that carries a [`Cause`].
static MESH_CAUSE: HeaderName = HeaderName::from_static("mesh-cause");

impl Cause {
    /// A first cause: a call in this trace.
    pub fn first(trace: Trace) -> Self {
        Self { correlation: Uuid::from_u128(trace.trace_id), causation: None, hops: 0 }
    }

    /// The cause that an event is, which has this id, correlation and number of hops.
    pub fn event(id: Uuid, correlation: Uuid, hops: u32) -> Self {
        Self { correlation, causation: Some(id), hops: hops.saturating_add(1) }
    }

    /// The cause in a header; `None` if the header is absent or malformed.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        headers.get(&MESH_CAUSE)?.to_str().ok()?.parse().ok()
    }

    /// Writes the header `mesh-cause`.
    pub fn write(&self, headers: &mut HeaderMap) {
        insert_once::<76>(headers, &MESH_CAUSE, format_args!("{self}"));
    }
}

/// As the header has it: correlation and causation in hexadecimal digits, the latter zero if there is none, and hops.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let causation = self.causation.unwrap_or_default();
        write!(f, "{}-{}-{}", self.correlation.as_simple(), causation.as_simple(), self.hops)
    }
}

/// A text is no [`Cause`].
#[derive(Debug, thiserror::Error)]
#[error("not a cause")]
pub struct NoCause;

impl FromStr for Cause {
    type Err = NoCause;

    fn from_str(text: &str) -> Result<Self, NoCause> {
        let mut parts = text.split('-');
        let (Some(correlation), Some(causation), Some(hops), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NoCause);
        };
        let correlation = simple(correlation)?;
        let causation = Some(simple(causation)?).filter(|id| !id.is_nil());
        let hops = hops.parse().map_err(|_: ParseIntError| NoCause)?;
        if correlation.is_nil() { Err(NoCause) } else { Ok(Self { correlation, causation, hops }) }
    }
}

fn simple(text: &str) -> Result<Uuid, NoCause> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 32).ok_or(NoCause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_round_trips_through_its_header() {
        let first = Cause::first(Trace::begin());
        let event = Cause::event(Uuid::now_v7(), first.correlation, 9);
        let last = Cause { hops: u32::MAX, ..event };
        for cause in [first, event, last] {
            let mut headers = HeaderMap::new();
            assert_eq!(Cause::from_headers(&headers), None);
            cause.write(&mut headers);
            assert_eq!(Cause::from_headers(&headers), Some(cause));
        }
        assert_eq!((event.correlation, event.hops), (first.correlation, 10));
        assert_eq!(Cause::event(Uuid::now_v7(), first.correlation, u32::MAX).hops, u32::MAX);
    }

    #[test]
    fn cause_that_is_malformed_is_none() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        for bad in [
            String::new(),
            id.to_owned(),
            format!("{id}-{id}"),
            format!("{id}-{id}-"),
            format!("{id}-{id}--1"),
            format!("{id}-{id}-4294967296"),
            format!("{id}-{id}-1-1"),
            format!("{id}-{}-1", &id[1..]),
            format!("{}-{id}-1", "0".repeat(32)),
            format!("{{{id}}}-{id}-1"),
        ] {
            assert!(bad.parse::<Cause>().is_err(), "{bad}");
        }
        assert!(format!("{id}-{id}-1").parse::<Cause>().is_ok());
    }
}
