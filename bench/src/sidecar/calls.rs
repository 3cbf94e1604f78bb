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

/// A turn of many callers has so many times the calls of one with one.
const MORE: usize = 5;

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
    compare(plan, report, [&ours, &theirs, &Way::direct(service)], &goals, server.id()).await
}

/// Two hops, with mutual TLS between.
pub(super) async fn pair(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (server, service) = bare::start().await?;
    let ours = tokio::task::spawn_blocking(move || Way::sidecars(service)).await??;
    let theirs = Way::envoys(service).await?;
    let goals = Compared { what: "a pair with mutual TLS", alone: "1 ×", busy: "1.6 ×", cpu: "0.7 ×" };
    compare(plan, report, [&ours, &theirs, &Way::direct(service)], &goals, server.id()).await
}

async fn compare(
    plan: &Plan,
    report: &mut Report,
    [ours, theirs, direct]: [&Way; 3],
    goals: &Compared,
    service: u32,
) -> anyhow::Result<()> {
    for (callers, connections) in CALLERS {
        let calls = if callers == 1 { plan.calls } else { plan.calls * MORE };
        let mut sides = Vec::new();
        for way in [ours, theirs, direct] {
            let mut clients = Vec::new();
            for _ in 0..connections {
                clients.push(Caller::connect(way.address).await?);
            }
            // The first calls open connections.
            turn(way, &clients, callers, calls / 4, service, &mut Measured::default()).await?;
            sides.push((way, clients, Measured::default()));
        }
        for round in 0..plan.rounds {
            // Each side is the first one in some rounds.
            for turned in round..round + sides.len() {
                let next = turned % sides.len();
                let (way, clients, measured) = &mut sides[next];
                turn(way, clients, callers, calls, service, measured).await?;
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
            _ => {
                report.compare(&format!("µs of CPU a call, {what}"), &ours.cpu, "Envoy", &theirs.cpu, cpu);
                let around = format!("µs of CPU a call of callers and service, {what}");
                report.compare(&around, &ours.around, "Envoy", &theirs.around, "");
                report.compare(&around, &ours.around, "nothing between", &direct.around, "");
            }
        }
    }
    Ok(())
}

/// One number a turn.
#[derive(Default)]
struct Measured {
    rate: Samples,
    /// The CPU time of the way.
    cpu: Samples,
    /// That of the callers and the service.
    around: Samples,
}

async fn turn(
    way: &Way,
    clients: &[Caller],
    callers: usize,
    calls: usize,
    service: u32,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let used = || (cpu(way.processes()), cpu(vec![std::process::id(), service]));
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
    for (samples, before, after) in [(&mut measured.cpu, before.0, after.0), (&mut measured.around, before.1, after.1)]
    {
        if let Some((before, after)) = before.zip(after) {
            samples.push((after - before).as_secs_f64() * 1e6 / calls as f64);
        }
    }
    Ok(())
}

/// The CPU time of processes; `None` without /proc.
fn cpu(processes: Vec<u32>) -> Option<Duration> {
    processes.into_iter().map(cpu_time).sum()
}
