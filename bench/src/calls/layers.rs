//! Measures the cost of each layer: the same call with one more layer each time. The table has the differences within a
//! round. The total is mostly encoding on the server, and the network on the client.
//!
//! The layers of a server are measured in memory. The layers of a client need a connection: client and server share one
//! thread over loopback, with many calls in flight to spread the kernel's cost.

use std::time::Instant;

use super::partial::{Layered, calling, serving};
use anyhow::Context as _;
use mesh::testing::Mesh;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::operations_server::OperationsServer;
use tokio::runtime;
use tracing::subscriber::{NoSubscriber, with_default};

use super::peer::{Answering, call, service};
use super::plan::Plan;
use crate::report::{Report, Samples};

/// The number of calls in flight at the client.
const CALLERS: usize = 64;
/// Calls of a batch.
const BATCH: usize = 128;

/// Runs on a thread of its own, because this thread already has a runtime.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let Plan { rounds, batches, .. } = *plan;
    let measured = tokio::task::spawn_blocking(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        anyhow::Ok([server(&runtime, rounds, batches)?, client(&runtime, rounds, batches)?])
    });
    for (whose, layers) in ["server", "client"].into_iter().zip(measured.await??) {
        for (name, own) in layers {
            report.alone(&format!("ns of a {whose}'s layer: {name}"), &own, "");
        }
    }
    Ok(())
}

/// Layers by name, innermost first, with the nanoseconds that each adds to a call.
type Own = Vec<(String, Samples)>;

fn server(runtime: &runtime::Runtime, rounds: usize, batches: usize) -> anyhow::Result<Own> {
    let layers = serving(&[], OperationsServer::new(Answering::default()));
    let mut turns: Vec<_> = layers.iter().map(|layer| (layer.name.to_owned(), layer.clone(), true)).collect();
    let (_, whole, _) = turns.last().cloned().context("a server has no layers")?;
    if let Some((name, _, logs)) = turns.last_mut() {
        (*name, *logs) = (format!("{name}, of it metrics"), false);
    }
    turns.push(("telemetry, of it the log's span".to_owned(), whole, true));
    let mut samples = vec![Samples::default(); turns.len()];
    for _ in 0..rounds {
        let mut round = vec![Samples::default(); turns.len()];
        for _ in 0..batches {
            for ((_, layer, logs), samples) in turns.iter().zip(&mut round) {
                let turn = || runtime.block_on(one_by_one(layer));
                samples.push(if *logs { turn() } else { with_default(NoSubscriber::new(), turn) }?);
            }
        }
        samples.iter_mut().zip(round).for_each(|(samples, round)| samples.push(round.undisturbed()));
    }
    Ok(own(turns.into_iter().map(|(name, ..)| name), &samples))
}

fn client(runtime: &runtime::Runtime, rounds: usize, batches: usize) -> anyhow::Result<Own> {
    runtime.block_on(async {
        let mesh = Mesh::start(service()).await;
        let address = mesh.url().trim_start_matches("http://").parse()?;
        let layers = calling(&[], address);
        let mut samples = vec![Samples::default(); layers.len()];
        for _ in 0..rounds {
            let mut round = vec![Samples::default(); layers.len()];
            for _ in 0..batches {
                for (layer, samples) in layers.iter().zip(&mut round) {
                    samples.push(many_at_once(layer).await?);
                }
            }
            samples.iter_mut().zip(round).for_each(|(samples, round)| samples.push(round.undisturbed()));
        }
        Ok(own(layers.iter().map(|layer| layer.name.to_owned()), &samples))
    })
}

fn own(names: impl Iterator<Item = String>, samples: &[Samples]) -> Own {
    let within = std::iter::once(None).chain(samples.iter().map(Some));
    let own = samples.iter().zip(within).map(|(with, without)| match without {
        Some(without) => with.less(without),
        None => with.clone(),
    });
    names.zip(own).collect()
}

/// Nanoseconds a call.
async fn one_by_one(layer: &Layered) -> anyhow::Result<f64> {
    let (mut client, begin) = (OperationsClient::new(layer.clone()), Instant::now());
    for _ in 0..BATCH {
        call(&mut client).await?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e9 / BATCH as f64)
}

async fn many_at_once(layer: &Layered) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let callers = (0..CALLERS).map(|_| {
        let mut client = OperationsClient::new(layer.clone());
        tokio::spawn(async move {
            for _ in 0..BATCH / CALLERS {
                call(&mut client).await?;
            }
            anyhow::Ok(())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await??;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e9 / BATCH as f64)
}
