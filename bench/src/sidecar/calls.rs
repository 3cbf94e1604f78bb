//! Calls a second through each way, and the CPU time that its processes take for a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::bare::{self, Caller};
use super::plan::Plan;
use super::ways::Way;
use crate::report::{Report, Samples};
use crate::server::cpu_time;

/// Callers, with the connections that they share.
const CALLERS: [(usize, usize); 3] = [(1, 1), (16, 2), (64, 2)];

/// What is compared, with the goals for the calls a second at one caller and at more, and for the CPU time.
struct Compared {
    what: &'static str,
    alone: &'static str,
    busy: &'static str,
    cpu: &'static str,
}

/// One hop, in plaintext.
pub(super) async fn hop(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (server, service) = bare::start().await?;
    let ours = tokio::task::spawn_blocking(move || Way::sidecar(service)).await??;
    let theirs = Way::envoy(service).await?;
    let goals = Compared { what: "plaintext", alone: "1 ×", busy: "1.4 ×", cpu: "0.7 ×" };
    compare(plan, report, [&ours, &theirs, &Way::direct(service)], &goals).await?;
    drop(server);
    Ok(())
}

/// Two hops, with mutual TLS between.
pub(super) async fn pair(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (server, service) = bare::start().await?;
    let ours = tokio::task::spawn_blocking(move || Way::sidecars(service)).await??;
    let theirs = Way::envoys(service).await?;
    let goals = Compared { what: "a pair with mutual TLS", alone: "1 ×", busy: "1.6 ×", cpu: "0.7 ×" };
    compare(plan, report, [&ours, &theirs, &Way::direct(service)], &goals).await?;
    drop(server);
    Ok(())
}

async fn compare(
    plan: &Plan,
    report: &mut Report,
    [ours, theirs, direct]: [&Way; 3],
    goals: &Compared,
) -> anyhow::Result<()> {
    for (callers, connections) in CALLERS {
        let mut sides = Vec::new();
        for way in [ours, theirs, direct] {
            let mut clients = Vec::new();
            for _ in 0..connections {
                clients.push(Caller::connect(way.address).await?);
            }
            // The first calls open connections.
            turn(way, &clients, callers, plan.calls / 4, &mut Measured::default()).await?;
            sides.push((way, clients, Measured::default()));
        }
        for _ in 0..plan.rounds {
            for (way, clients, measured) in &mut sides {
                turn(way, clients, callers, plan.calls, measured).await?;
            }
        }
        let [(_, _, ours), (_, _, theirs), (_, _, direct)] = &sides[..] else { continue };
        let what = format!("{}, callers: {callers}, connections: {connections}", goals.what);
        let goal = if callers == 1 { goals.alone } else { goals.busy };
        report.compare(&format!("calls/s, {what}"), &ours.rate, "Envoy", &theirs.rate, goal);
        report.compare(&format!("calls/s, {what}"), &ours.rate, "nothing between", &direct.rate, "");
        let cpu = if callers == 1 { "" } else { goals.cpu };
        match ours.cpu.len() {
            0 => report.missing(&format!("µs of CPU a call, {what}"), "needs /proc"),
            _ => report.compare(&format!("µs of CPU a call, {what}"), &ours.cpu, "Envoy", &theirs.cpu, cpu),
        }
    }
    Ok(())
}

/// One number a turn.
#[derive(Default)]
struct Measured {
    rate: Samples,
    cpu: Samples,
}

async fn turn(
    way: &Way,
    clients: &[Caller],
    callers: usize,
    calls: usize,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let used = || way.processes().into_iter().map(cpu_time).sum::<Option<Duration>>();
    let (begun, mut calling) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let (before, begin) = (used(), Instant::now());
    for client in clients.iter().cycle().take(callers) {
        let (client, begun) = (client.clone(), Arc::clone(&begun));
        calling.spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < calls {
                client.call().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(called) = calling.join_next().await {
        called??;
    }
    let (took, after) = (begin.elapsed(), used());
    measured.rate.push(calls as f64 / took.as_secs_f64());
    if let Some((before, after)) = before.zip(after) {
        measured.cpu.push((after - before).as_secs_f64() * 1e6 / calls as f64);
    }
    Ok(())
}
