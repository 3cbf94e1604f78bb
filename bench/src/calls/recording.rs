//! Measures what it costs to count calls by their edges, and what a dashboard costs that watches.
//!
//! - Calls to a server that ten dashboards watch each second, beside one that none watches.
//! - The CPU time of one message to a watcher, with its reader, if calls were made on each of 200 edges.
//! - The recording alone: an edge is found, and the begin and the end of a call are counted. The reading of the clock
//!   is not in it: the log needs the time of a call anyway.
//! - A call in memory, whose two sides are recorded, beside the same call of a process that counts none.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::mesh::inspect::v1::WatchRequest;
use mesh_proto::mesh::inspect::v1::inspect_service_client::InspectServiceClient;
use mesh_rpc::call::{Method, Methods, Trace};
use mesh_rpc::telemetry::{Edge, Ended, Metrics};
use tokio::runtime;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use super::loopback::{Measured, Pair};
use super::partial::{self, in_memory, inspected};
use super::peer::{Side, call};
use super::plan::Plan;
use crate::report::{Report, Samples};
use crate::server::{Server, cpu_time};

/// The calls of a batch.
const BATCH: u32 = 20_000;
/// The calls of a batch with all that is around them.
const WHOLE: u32 = 200;
/// The edges that are used in turn.
const EDGES: usize = 64;
/// Dashboards that watch a server, and the callers beside them.
const WATCHERS: usize = 10;
const CALLERS: usize = 16;
/// The edges of a process in a larger mesh.
const WATCHED: usize = 200;

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let Plan { rounds, batches, .. } = *plan;
    // Before threads that compute and end: the CPU time of the process would be less without them.
    watched(plan, report).await?;
    message(plan, report).await?;
    let alone = tokio::task::spawn_blocking(move || alone(rounds, batches)).await?;
    let goals = ["20", "", "", ""];
    for ((what, samples), goal) in alone.into_iter().zip(goals) {
        report.alone(&format!("ns to record a call: {what}"), &samples, goal);
    }
    let (counted, uncounted) = tokio::task::spawn_blocking(move || whole(rounds, batches)).await??;
    report.compare("µs a call in memory, recorded", &counted, "not recorded", &uncounted, "1.01 ×");
    Ok(())
}

/// The recording alone, by what records.
fn alone(rounds: usize, batches: usize) -> Vec<(&'static str, Samples)> {
    let metrics = Metrics::new();
    let method = method();
    let peers: Vec<&'static str> = (0..EDGES).map(|peer| &*format!("peer-{peer}").leak()).collect();
    let (ok, failed) = (Status::ok(""), Status::not_found("no such thing"));
    let one = |_: u32| metrics.edges.made("bench", "bench", method, true);
    let in_turn = |call: u32| metrics.edges.made("bench", peers[call as usize % EDGES], method, true);
    let kinds: [(&str, &dyn Fn() -> f64); 4] = [
        ("one thread", &|| on_threads(1, &|| record(&ok, one))),
        ("two threads, one edge", &|| on_threads(2, &|| record(&ok, one))),
        ("two threads, 64 edges of one method in turn", &|| on_threads(2, &|| record(&ok, in_turn))),
        ("one thread, a failure that is kept", &|| on_threads(1, &|| record(&failed, one))),
    ];
    let mut all = kinds.map(|(what, _)| (what, Samples::default()));
    for _ in 0..rounds {
        for ((_, batch), (_, samples)) in kinds.iter().zip(&mut all) {
            let mut round = Samples::default();
            (0..batches).for_each(|_| round.push(batch()));
            samples.push(round.undisturbed());
        }
    }
    all.into()
}

/// Nanoseconds a call of each thread.
fn on_threads(threads: usize, batch: &(dyn Fn() -> f64 + Sync)) -> f64 {
    if threads == 1 {
        return batch();
    }
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let run = || {
            start.wait();
            batch()
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let took: Vec<_> = running.into_iter().map(|thread| thread.join().unwrap_or(f64::NAN)).collect();
        took.iter().sum::<f64>() / threads as f64
    })
}

/// Nanoseconds a call of a batch.
fn record(status: &Status, edge: impl Fn(u32) -> &'static Edge) -> f64 {
    let mut trace = Trace { trace_id: 1 << 31, span_id: 1, sampled: true };
    let begin = Instant::now();
    for call in 0..BATCH {
        let edge = edge(call);
        edge.begin();
        // Times as of real calls: in many buckets.
        let took = Duration::from_nanos(u64::from(call.wrapping_mul(7919) % 5_000_000));
        trace.trace_id = trace.trace_id.wrapping_add(0x9e37_79b9);
        edge.end(&Ended { status, took, trace, parent: None, attempts: 1 });
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH)
}

fn method() -> &'static Method {
    Methods::of(&[]).find("/google.longrunning.Operations/GetOperation")
}

/// A call in memory by a channel: recorded, and not.
fn whole(rounds: usize, batches: usize) -> anyhow::Result<(Samples, Samples)> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let mut sides =
        [Metrics::new(), Metrics::counting_no_calls()].map(|metrics| OperationsClient::new(in_memory(metrics)));
    let mut samples = [(); 2].map(|()| Samples::default());
    for _ in 0..rounds {
        let mut round = [(); 2].map(|()| Samples::default());
        for _ in 0..batches {
            for (client, samples) in sides.iter_mut().zip(&mut round) {
                let begin = Instant::now();
                runtime.block_on(async {
                    for _ in 0..WHOLE {
                        call(client).await?;
                    }
                    anyhow::Ok(())
                })?;
                samples.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(WHOLE));
            }
        }
        samples.iter_mut().zip(round).for_each(|(samples, round)| samples.push(round.undisturbed()));
    }
    let [counted, uncounted] = samples;
    Ok((counted, uncounted))
}

/// Calls over loopback to a server that is watched, beside one that is not.
async fn watched(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let pair = async || {
        let server = tokio::task::spawn_blocking(|| Side::Mesh.server()).await??;
        let clients = partial::calling(&[], server.address()?).pop().map(OperationsClient::new).into_iter().collect();
        anyhow::Ok(Pair { clients, server })
    };
    let (with, without) = (pair().await?, pair().await?);
    let watching = watch(&with.server).await?;
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    for side in [&with, &without] {
        side.turn(CALLERS, plan.calls, &mut Measured::default()).await?;
    }
    for _ in 0..plan.rounds {
        with.turn(CALLERS, plan.calls, &mut ours).await?;
        without.turn(CALLERS, plan.calls, &mut theirs).await?;
    }
    drop(watching);
    ours.compare(
        &theirs,
        "none",
        &format!("callers: {CALLERS}, {WATCHERS} watchers at 1 Hz"),
        ["", "", "", "1.01 ×", ""],
        report,
    );
    Ok(())
}

/// Dashboards that watch a server, until this is dropped.
async fn watch(server: &Server) -> anyhow::Result<JoinSet<()>> {
    let mut watching = JoinSet::new();
    for _ in 0..WATCHERS {
        let channel = Channel::from_shared(server.url.clone())?.connect().await?;
        let mut messages = InspectServiceClient::new(channel).watch(WatchRequest::default()).await?.into_inner();
        watching.spawn(async move { while let Ok(Some(_)) = messages.message().await {} });
    }
    Ok(watching)
}

/// The messages to watchers of a process in which calls are made on each edge.
async fn message(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let method = method();
    let edges: Vec<_> =
        (0..WATCHED).map(|peer| metrics.edges.made("bench", format!("peer-{peer}").leak(), method, false)).collect();
    let status = Status::ok("");
    let work = |micros: u64| {
        for edge in &edges {
            edge.begin();
            let (took, trace) = (Duration::from_micros(micros), Trace::begin());
            edge.end(&Ended { status: &status, took, trace, parent: None, attempts: 1 });
        }
    };
    // Each edge has calls in a dozen buckets.
    (0..12).for_each(|octave| work(100 << octave));
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let request = WatchRequest { interval };
        watchers.push(InspectServiceClient::new(inspected(&metrics)).watch(request).await?.into_inner());
    }
    let mut samples = Samples::default();
    for _ in 0..plan.rounds {
        let before = cpu_time(std::process::id());
        for _ in 0..5 {
            work(100);
            for read in join_all(watchers.iter_mut().map(|watcher| watcher.message())).await {
                read?;
            }
        }
        if let (Some(before), Some(after)) = (before, cpu_time(std::process::id())) {
            samples.push((after - before).as_secs_f64() * 1e6 / (5 * WATCHERS) as f64);
        }
    }
    report.alone(&format!("µs of CPU a message, {WATCHED} edges that changed, with its reader"), &samples, "5,000");
    Ok(())
}
