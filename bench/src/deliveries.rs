//! Measures the deliveries of one process: a server in a process of its own, a few operations that report one step
//! after the other, and more and more streams that follow them over loopback. The clients count what arrives.
//!
//! The reference is the number of deliveries that were due in the same time: each change, once for every stream that
//! follows its operation. The difference did not arrive in time. CPU time a delivery is the server's, with all that it
//! did to write the changes; it varies far less than deliveries a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::anyhow;
use sqlx::{AnyConnection, Row as _};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::machine::{Engine, Machine};
use crate::plan::Plan;
use crate::report::{Report, Samples};
use crate::server::{Server, cpu_time};
use crate::watching::{is_progress, next, watch};

/// The number of operations that report steps.
const REPORTING: usize = 4;
/// The number of streams that share a connection.
const SHARED_BY: usize = 64;

pub(crate) async fn measure(machine: &Machine, engine: Engine, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let place = machine.place(engine, "deliveries").await?.map_err(anyhow::Error::msg)?;
    let served = place.clone();
    let server = tokio::task::spawn_blocking(move || Server::start(&served, REPORTING)).await??;
    let mut database = place.connect().await?;
    let mut measured: Vec<_> = plan.streams.iter().map(|_| Measured::default()).collect();
    for _ in 0..plan.rounds {
        for (&streams, measured) in plan.streams.iter().zip(&mut measured) {
            round(&server, &mut database, streams, plan, measured).await?;
        }
    }
    let most = plan.streams.last();
    for (streams, Measured { arrived, due, cpu }) in plan.streams.iter().zip(&measured) {
        let goal = if Some(streams) == most { "200,000" } else { "" };
        report.compare(&format!("deliveries/s, streams: {streams}"), arrived, "to be delivered", due, goal);
        // With fewer streams, it is the cost of writing.
        let what = format!("µs of CPU a delivery, server, streams: {streams}");
        match cpu.len() {
            _ if Some(streams) != most => {}
            0 => report.missing(&what, "needs /proc"),
            _ => report.alone(&what, cpu, ""),
        }
    }
    Ok(())
}

/// The results with one number of streams: one number a round.
#[derive(Default)]
struct Measured {
    /// The changes a second that arrived, and those that were due.
    arrived: Samples,
    due: Samples,
    /// The server's CPU time of a delivery, in microseconds. Empty without /proc.
    cpu: Samples,
}

async fn round(
    server: &Server,
    database: &mut AnyConnection,
    streams: usize,
    plan: &Plan,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let followed: Vec<_> = server.reporting.iter().cycle().take(streams).collect();
    let (arrived, open) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
    let mut followers = JoinSet::new();
    for followed in followed.chunks(SHARED_BY) {
        let channel = Channel::from_shared(server.url.clone())?.connect().await?;
        for name in followed {
            let following = follow(channel.clone(), (*name).clone(), Arc::clone(&arrived), Arc::clone(&open));
            followers.spawn(following);
        }
    }
    let window = async {
        let _open = open.acquire_many(u32::try_from(streams)?).await?;
        let before = due(database, &followed).await?;
        let (begin, first, cpu) = (Instant::now(), arrived.load(Ordering::Relaxed), cpu_time(server.id()));
        tokio::time::sleep(plan.turn).await;
        let (seconds, last) = (begin.elapsed().as_secs_f64(), arrived.load(Ordering::Relaxed));
        let cpu = cpu_time(server.id()).zip(cpu).map(|(after, before)| after - before);
        let (arrived, due) = (f64::from(last - first), (due(database, &followed).await? - before) as f64);
        measured.arrived.push(arrived / seconds);
        measured.due.push(due / seconds);
        cpu.into_iter().for_each(|cpu| measured.cpu.push(cpu.as_secs_f64() * 1e6 / arrived));
        Ok(())
    };
    tokio::select! {
        measured = window => measured,
        // A reporting operation does not end, and neither do its streams.
        Some(ended) = followers.join_next() => Err(ended?.err().unwrap_or_else(|| anyhow!("a stream has ended"))),
    }
}

/// Counts the changes that arrive, once the stream is open.
async fn follow(channel: Channel, name: String, arrived: Arc<AtomicU32>, open: Arc<Semaphore>) -> anyhow::Result<()> {
    let mut frames = watch(channel, name).await?;
    next(&mut frames).await?;
    open.add_permits(1);
    loop {
        let frame = next(&mut frames).await?;
        arrived.fetch_add(u32::from(is_progress(&frame)), Ordering::Relaxed);
    }
}

/// The number of changes so far, each counted for every follower. Read from the database, because a busy server would
/// answer late.
async fn due(database: &mut AnyConnection, followed: &[&String]) -> anyhow::Result<i64> {
    let mut all = 0;
    for row in sqlx::query("SELECT id, revision FROM operations").fetch_all(database).await? {
        let (id, revision): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let followers = followed.iter().filter(|name| name.ends_with(&id)).count();
        all += revision * i64::try_from(followers)?;
    }
    Ok(all)
}
