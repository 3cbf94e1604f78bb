//! What telemetry has, as the messages of the contract.

use std::time::{Duration, SystemTime};

use mesh_proto::mesh::inspect::v1::{
    Bucket, CodeCount, Edge, Endpoint, Failure, Follower, KeptCall, LogLine, Setting, Side,
};
use mesh_runtime::settings::Listing;
use prost_types::Timestamp;
use tracing::Level;

use crate::telemetry::{self, EndpointCounts, Ends, Lag, Measured, Totals};

/// The keys of a configuration that are in force. A secret is "set".
pub fn settings(listing: &Listing) -> Vec<Setting> {
    let setting = |key: mesh_runtime::settings::InForce<'_>| Setting {
        key: key.key.to_owned(),
        secret: key.value.is_none(),
        value: key.value.unwrap_or_else(|| "set".to_owned()),
        origin: key.source.to_string(),
    };
    listing.in_force().map(setting).collect()
}

pub(super) fn edge(edge: &telemetry::Edge) -> Edge {
    let (totals, ends) = (edge.totals(), &edge.ends);
    Edge {
        side: side(ends).into(),
        caller: ends.caller.to_owned(),
        callee: ends.callee.to_owned(),
        method: ends.method_name(),
        memory: ends.memory,
        codes: codes(&totals),
        sum: Some(duration(Duration::from_nanos(totals.nanos))),
        buckets: buckets(&totals),
        in_flight: count(totals.in_flight()),
        retries: count(totals.retries),
        last_failure: edge.last_failure().map(|failure| Failure {
            code: failure.code as i32,
            reason: failure.reason.to_owned(),
            trace: trace(failure.trace),
            ended_at: Some(time(failure.ended_at)),
        }),
        claimed_caller: ends.claimed.to_owned(),
    }
}

fn codes(totals: &Totals) -> Vec<CodeCount> {
    let counts = (0..).zip(&totals.codes).filter(|(_, calls)| **calls > 0);
    counts.map(|(code, calls)| CodeCount { code, count: count(*calls) }).collect()
}

fn buckets(totals: &Totals) -> Vec<Bucket> {
    let counts = (0..).zip(&totals.buckets).filter(|(_, calls)| **calls > 0);
    counts.map(|(number, calls)| Bucket { number, count: count(*calls) }).collect()
}

pub(super) fn kept(call: &telemetry::KeptCall) -> KeptCall {
    let ends = call.ends;
    KeptCall {
        side: side(ends).into(),
        trace: trace(call.trace),
        span: span(call.span),
        parent: call.parent.map(|parent| span(parent.get())).unwrap_or_default(),
        caller: ends.caller.to_owned(),
        callee: ends.callee.to_owned(),
        method: ends.method_name(),
        memory: ends.memory,
        started_at: Some(time(call.started_at())),
        took: Some(duration(call.took)),
        code: call.code as i32,
        reason: call.reason.to_owned(),
        attempts: call.attempts.into(),
        slow: call.slow,
    }
}

/// `lag` is there if this process applies the events.
pub(super) fn follower(service: &str, source: &str, lag: Option<Lag>) -> Follower {
    Follower {
        service: service.to_owned(),
        source: source.to_owned(),
        lag: lag.map_or(-1, |lag| lag.events),
        parked: lag.map(|lag| lag.parked).unwrap_or_default(),
        connected: lag.is_some_and(|lag| lag.connected),
    }
}

pub(super) fn endpoint(counts: EndpointCounts) -> Endpoint {
    Endpoint {
        peer: counts.peer.to_owned(),
        address: counts.address,
        picks: count(counts.picks),
        ejections: count(counts.ejections),
        gone: false,
    }
}

pub(super) fn line(line: &telemetry::LogLine) -> LogLine {
    LogLine {
        at: Some(time(line.at)),
        level: level(line.level).to_owned(),
        target: line.target.to_owned(),
        trace: line.trace.map(trace).unwrap_or_default(),
        text: line.text.clone(),
        number: count(line.number),
    }
}

pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

pub(super) fn time(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// The trace of 32 hexadecimal digits.
pub(super) fn parse_trace(text: &str) -> Option<u128> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

fn side(ends: &Ends) -> Side {
    match ends.side {
        Measured::Served => Side::Server,
        Measured::Made => Side::Client,
    }
}

fn trace(trace: u128) -> String {
    format!("{trace:032x}")
}

fn span(span: u64) -> String {
    format!("{span:016x}")
}

fn duration(duration: Duration) -> prost_types::Duration {
    // A call takes less than the longest duration, which is 10,000 years.
    duration.try_into().unwrap_or_default()
}

fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
