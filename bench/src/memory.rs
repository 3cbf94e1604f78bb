//! Measures the memory of an idle stream: the resident memory of a server in a process of its own, before and with many
//! streams, divided. Every stream watches an operation of its own, which no worker runs.

use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Streaming;
use tonic::transport::Channel;

use mesh_proto::mesh::operations::v1::WatchResponse;

use crate::limit::Limit;
use crate::machine::{Engine, Machine};
use crate::plan::Plan;
use crate::report::{Report, Samples};
use crate::server::Server;
use crate::watching::{next, watch};

/// The number of streams that share a connection: as many as the server allows.
const SHARED_BY: usize = 200;
/// The number of connections that open their streams at the same time.
const AT_ONCE: usize = 8;
/// The number of operations that are stored at once.
const BATCH: usize = 1_000;
/// The pause until the memory for opening streams is free again.
const SETTLE: Duration = Duration::from_secs(1);

pub(crate) async fn measure(machine: &Machine, engine: Engine, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let place = machine.place(engine, "memory").await?.map_err(anyhow::Error::msg)?;
    let started = place.clone();
    let server = tokio::task::spawn_blocking(move || Server::start(&started, 0)).await??;
    let mut limit = Limit::open(&place).await?;
    let mut streams = Vec::new();
    let before = server.resident();
    for &idle in plan.idle {
        let mut names = Vec::new();
        while streams.len() + names.len() < idle {
            let ids = limit.sets(BATCH.min(idle - streams.len() - names.len())).await?;
            names.extend(ids.iter().map(|id| format!("services/bench/operations/{id}")));
        }
        streams.extend(open(&server, names).await?);
        tokio::time::sleep(SETTLE).await;

        let what = format!("KB per idle Watch, streams: {idle}");
        match before.zip(server.resident()) {
            Some((before, after)) => {
                let mut samples = Samples::default();
                samples.push((after - before) / idle as f64 / 1000.0);
                report.alone(&what, &samples, "8");
            }
            None => report.missing(&what, "needs /proc of Linux"),
        }
    }
    Ok(())
}

/// Opens a stream for each name, and receives its snapshot.
async fn open(server: &Server, names: Vec<String>) -> anyhow::Result<Vec<Streaming<WatchResponse>>> {
    let (mut opening, mut streams) = (JoinSet::new(), Vec::new());
    for names in names.chunks(SHARED_BY).map(<[String]>::to_vec) {
        if opening.len() == AT_ONCE
            && let Some(opened) = opening.join_next().await
        {
            streams.extend(opened??);
        }
        let channel = Channel::from_shared(server.url.clone())?.connect().await?;
        opening.spawn(async move {
            let mut streams = Vec::new();
            for name in names {
                let mut stream = watch(channel.clone(), name).await?;
                next(&mut stream).await?;
                streams.push(stream);
            }
            anyhow::Ok(streams)
        });
    }
    while let Some(opened) = opening.join_next().await {
        streams.extend(opened??);
    }
    Ok(streams)
}
