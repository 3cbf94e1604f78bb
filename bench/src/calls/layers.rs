//! Measures the cost of what mesh puts around a service and a connection: the same call with more around it each time.
//! The table has the differences within a round.
//!
//! The layers of a server are measured in memory, all together: they compile into one future. The layers of a client
//! need a connection: client and server share one thread over loopback, with many calls in flight to spread the
//! kernel's cost.

use std::time::Instant;

use super::partial::{Layered, calling, serving};
use mesh::testing::Mesh;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::operations_server::OperationsServer;
use tokio::runtime;

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
            report.alone(&format!("ns of a {whose}: {name}"), &own, "");
        }
    }
    Ok(())
}

/// Layers by name, innermost first, with the nanoseconds that each adds to a call.
type Own = Vec<(String, Samples)>;

fn server(runtime: &runtime::Runtime, rounds: usize, batches: usize) -> anyhow::Result<Own> {
    let layers = serving(&[], OperationsServer::new(Answering::default()));
    let mut samples = vec![Samples::default(); layers.len()];
    for _ in 0..rounds {
        let mut round = vec![Samples::default(); layers.len()];
        for _ in 0..batches {
            for (layer, samples) in layers.iter().zip(&mut round) {
                samples.push(runtime.block_on(one_by_one(layer))?);
            }
        }
        samples.iter_mut().zip(round).for_each(|(samples, round)| samples.push(round.undisturbed()));
    }
    Ok(own(layers.iter().map(|layer| layer.name.to_owned()), &samples))
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
