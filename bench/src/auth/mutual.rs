//! Measures calls over connections that last, with mutual TLS and without it. Both sides are mesh.

use mesh::testing::Mesh;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_rpc::identity::Transport;

use super::plan::Plan;
use super::site::{Side, Site};
use crate::calls::loopback::{Measured, Pair, connections};
use crate::calls::partial::{Layered, whole_channel};
use crate::calls::peer::{self, service};
use crate::report::Report;
use crate::server::Server;

const GOALS: [&str; 5] = ["0.90 ×", "", "", "", ""];

pub(super) async fn measure(site: &Site, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    // A calling process also serves: it has everything that a process of mesh has.
    let _mesh = Mesh::start(service()).await;
    let plain = tokio::task::spawn_blocking(|| peer::Side::Mesh.server()).await??;
    let mutual = pair(site.server(Side::Mesh).await?, site.transport()?)?;
    let plain = pair(plain, Transport::default())?;
    // Connections are opened on demand.
    for pair in [&mutual, &plain] {
        pair.turn(plan.callers, plan.calls, &mut Measured::default()).await?;
    }
    let (mut with, mut without) = (Measured::default(), Measured::default());
    for _ in 0..plan.rounds {
        mutual.turn(plan.callers, plan.calls, &mut with).await?;
        plain.turn(plan.callers, plan.calls, &mut without).await?;
    }
    let [own, other] = [&mutual, &plain].map(|pair| pair.server.address().ok().and_then(connections));
    let of = |count: Option<usize>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let what = format!("mutual TLS, callers: {}, connections: {} and {}", plan.callers, of(own), of(other));
    with.compare(&without, "plaintext", &what, GOALS, report);
    Ok(())
}

fn pair(server: Server, transport: Transport) -> anyhow::Result<Pair<Layered>> {
    let channel = whole_channel(server.address()?, transport);
    Ok(Pair { clients: vec![OperationsClient::new(channel)], server })
}
