//! The edges as metrics: rate, errors and duration of calls, on the server's and on the client's side.
//!
//! On the server's side a series has the calls of all callers. On the client's side it has those of one caller.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use tonic::Code;

use super::buckets::{BUCKETS, SHOWN, bound};
use super::counters::{CODES, Totals};
use super::edges::Edges;
use super::ends::Measured;

/// Shows the edges of a process.
#[derive(Clone)]
pub(super) struct RpcMetrics(pub(super) Edges);

/// The labels of a method, and of the service that calls it.
type Labels = Vec<(&'static str, &'static str)>;

/// The calls of some edges.
#[derive(Default)]
struct Calls {
    totals: Totals,
    /// Whether codes without a call are shown, too.
    all_codes: bool,
}

impl RpcMetrics {
    /// The calls of a side, by their labels.
    fn of(&self, side: Measured) -> BTreeMap<Labels, Calls> {
        let mut calls: BTreeMap<Labels, Calls> = BTreeMap::new();
        let expected = self.0.expected();
        let expected: Vec<_> = match side {
            Measured::Served => expected.served.into_iter().map(|method| ("", method)).collect(),
            Measured::Made => expected.made,
        };
        let labels = |caller, method: &crate::call::Method| {
            let mut labels = vec![("grpc_service", method.service), ("grpc_method", method.name)];
            labels.extend((side == Measured::Made).then_some(("caller", caller)));
            labels
        };
        for (caller, method) in expected {
            calls.entry(labels(caller, method)).or_default().all_codes = true;
        }
        for edge in self.0.all().into_iter().filter(|edge| edge.ends.side == side) {
            calls.entry(labels(edge.ends.caller, edge.ends.method)).or_default().totals.add(&edge.totals());
        }
        calls
    }
}

impl fmt::Debug for RpcMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RpcMetrics")
    }
}

impl Collector for RpcMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (side, prefix) in [(Measured::Served, "grpc_server"), (Measured::Made, "grpc_client")] {
            let calls = self.of(side);
            if !calls.is_empty() {
                handled(&mut encoder, prefix, &calls)?;
                seconds(&mut encoder, prefix, &calls)?;
                in_flight(&mut encoder, prefix, &calls)?;
            }
        }
        Ok(())
    }
}

fn handled(encoder: &mut DescriptorEncoder<'_>, prefix: &str, all: &BTreeMap<Labels, Calls>) -> fmt::Result {
    let (name, help) = (format!("{prefix}_handled"), "RPCs completed, by the code they ended with.");
    let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Counter)?;
    for (labels, calls) in all {
        let codes = (0..CODES).filter(|code| calls.all_codes || calls.totals.codes[*code] > 0);
        for code in codes {
            let mut labels = labels.clone();
            // Behind the method, and before the caller.
            labels.insert(2, ("grpc_code", code_name(Code::from_i32(code as i32))));
            let count = calls.totals.codes[code];
            family.encode_family(&by(&labels))?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    Ok(())
}

fn seconds(encoder: &mut DescriptorEncoder<'_>, prefix: &str, all: &BTreeMap<Labels, Calls>) -> fmt::Result {
    let (name, help) = (format!("{prefix}_handling_seconds"), "Time from an RPC's start to its end.");
    let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Histogram)?;
    for (labels, Calls { totals, .. }) in all {
        let sum = Duration::from_nanos(totals.nanos).as_secs_f64();
        let count = totals.buckets.iter().sum();
        let mut below = 0;
        let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(SHOWN.len() + 1);
        for shown in SHOWN {
            let bound = bound(shown).map_or(f64::INFINITY, |bound| bound.as_secs_f64());
            buckets.push((bound, totals.buckets[below..=shown].iter().sum()));
            below = shown + 1;
        }
        buckets.push((f64::INFINITY, totals.buckets[below..BUCKETS].iter().sum()));
        family.encode_family(&by(labels))?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
    }
    Ok(())
}

fn in_flight(encoder: &mut DescriptorEncoder<'_>, prefix: &str, all: &BTreeMap<Labels, Calls>) -> fmt::Result {
    let (name, help) = (format!("{prefix}_in_flight"), "RPCs started and not yet ended.");
    let mut family = encoder.encode_descriptor(&name, help, None, MetricType::Gauge)?;
    for (labels, calls) in all {
        let in_flight = i64::try_from(calls.totals.in_flight()).unwrap_or(i64::MAX);
        family.encode_family(&by(labels))?.encode_gauge(&in_flight)?;
    }
    Ok(())
}

fn by(labels: &Labels) -> impl EncodeLabelSet + '_ {
    labels.as_slice()
}

/// A code as the metrics of other gRPC implementations spell it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Methods;
    use crate::telemetry::edge::Ended;
    use crate::telemetry::exposition::Exposition;
    use crate::telemetry::metrics::Metrics;
    use tonic::Status;

    #[test]
    fn page_has_the_calls_of_all_edges_of_a_method() {
        let metrics = Metrics::new();
        let method = Methods::of(&[]).find("/google.longrunning.Operations/GetOperation");
        metrics.edges.declares("idle", method);
        for (caller, callee, millis) in
            [("artwork", "library", 1), ("artwork", "catalog", 300), ("page", "library", 60_000)]
        {
            let edge = metrics.edges.made(caller, callee, method, false);
            edge.begin();
            let (trace, took) = (crate::call::Trace::begin(), Duration::from_millis(millis));
            edge.end(&Ended { status: &Status::not_found(""), took, trace, parent: None, attempts: 1 });
        }
        metrics.edges.made("page", "library", method, false).begin();
        let page = metrics.render(Exposition::Text);
        let of = |caller| {
            format!(r#"grpc_service="google.longrunning.Operations",grpc_method="GetOperation",caller="{caller}""#)
        };
        let code = |code, caller| {
            format!(
                r#"grpc_client_handled_total{{grpc_service="google.longrunning.Operations",grpc_method="GetOperation",grpc_code="{code}",caller="{caller}"}}"#
            )
        };
        for line in [
            format!("{} 2", code("NotFound", "artwork")),
            format!("{} 0", code("NotFound", "idle")),
            format!("grpc_client_handling_seconds_sum{{{}}} 0.301", of("artwork")),
            format!("grpc_client_handling_seconds_count{{{}}} 2", of("artwork")),
            format!(r#"grpc_client_handling_seconds_bucket{{le="0.000096",{}}} 0"#, of("artwork")),
            format!(r#"grpc_client_handling_seconds_bucket{{le="0.001024",{}}} 1"#, of("artwork")),
            format!(r#"grpc_client_handling_seconds_bucket{{le="0.262144",{}}} 1"#, of("artwork")),
            format!(r#"grpc_client_handling_seconds_bucket{{le="0.524288",{}}} 2"#, of("artwork")),
            format!(r#"grpc_client_handling_seconds_bucket{{le="10.48576",{}}} 0"#, of("page")),
            format!(r#"grpc_client_handling_seconds_bucket{{le="+Inf",{}}} 1"#, of("page")),
            format!("grpc_client_in_flight{{{}}} 1", of("page")),
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
        let long = |line: &str| line.split_once("le=\"").is_some_and(|(_, bound)| bound.find('"') > Some(8));
        assert!(!page.lines().any(long), "a bound that is no short decimal:\n{page}");
        assert!(
            !page.contains(&code("OK", "artwork")),
            "a code without a call of an edge that nothing declares:\n{page}"
        );
    }
}
