//! Measures a peer in the same process, beside its handler alone, and beside the same call over loopback. One caller
//! calls again when it has its answer.

use std::time::Instant;

use mesh::testing::Mesh;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::operations_server::{Operations as _, OperationsServer};

use super::partial;
use tonic::Request;

use super::peer::{Answering, Side, call, request, service};
use super::plan::Plan;
use crate::report::{Report, Samples};

/// Calls of a batch.
const BATCH: usize = 100;

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let (mesh, handler) = (Mesh::start(service()).await, Answering::default());
    let server = tokio::task::spawn_blocking(|| Side::Mesh.server()).await??;
    let mut mesh_client = OperationsClient::new(mesh.channel("bench"));
    let mut tonic = OperationsClient::new(OperationsServer::new(handler.clone()));
    let loopback = partial::calling(&[], server.address()?).pop().map(OperationsClient::new);
    let mut loopback = loopback.ok_or_else(|| anyhow::anyhow!("a channel has no layers"))?;

    let [mut handlers, mut tonics, mut mesh_calls, mut loopbacks] = [(); 4].map(|()| Samples::default());
    for _ in 0..plan.rounds {
        let mut batches = [(); 4].map(|()| Samples::default());
        for _ in 0..plan.batches {
            let direct = async || {
                handler.get_operation(Request::new(request())).await?;
                Ok(())
            };
            batches[0].push(micros(BATCH, direct).await?);
            batches[1].push(micros(BATCH, async || call(&mut tonic).await).await?);
            batches[2].push(micros(BATCH, async || call(&mut mesh_client).await).await?);
            batches[3].push(micros(BATCH / 10, async || call(&mut loopback).await).await?);
        }
        let all = [&mut handlers, &mut tonics, &mut mesh_calls, &mut loopbacks];
        all.into_iter().zip(batches).for_each(|(samples, batches)| samples.push(batches.undisturbed()));
    }
    let beyond = mesh_calls.less(&handlers);
    report.compare("µs in memory beyond the handler", &beyond, "bare tonic", &tonics.less(&handlers), "3.5");
    report.compare("µs a call in memory", &mesh_calls, "over loopback", &loopbacks, "1 ÷ 40 = 0.025");
    Ok(())
}

/// The mean duration of one call, in microseconds, with one call after the other.
async fn micros(calls: usize, mut call: impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let begin = Instant::now();
    for _ in 0..calls {
        call().await?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / calls as f64)
}
