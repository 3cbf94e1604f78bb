//! Measures mesh and bare tonic over loopback: each with a server in a process of its own, and with more and more
//! callers, which call again when they have their answer. mesh opens connections on demand; tonic gets as many.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mesh::testing::Mesh;
use mesh_proto::google::longrunning::operations_client::OperationsClient;

use super::partial;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;
use tonic::transport::Channel;

use super::peer::{Side, call, service};
use super::plan::Plan;
use crate::report::{Report, Samples};

/// The results of one side with one number of callers: one number a round.
#[derive(Default)]
struct Measured {
    rate: Samples,
    p50: Samples,
    p99: Samples,
}

impl Measured {
    fn push(&mut self, (rate, micros): (f64, Samples)) {
        self.rate.push(rate);
        self.p50.push(micros.percentile(0.5));
        self.p99.push(micros.percentile(0.99));
    }
}

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    // A calling process also serves: it has everything that a process of mesh has.
    let _mesh = Mesh::start(service()).await;
    let (mesh_server, tonic_server) =
        tokio::task::spawn_blocking(|| anyhow::Ok((Side::Mesh.server()?, Side::Tonic.server()?))).await??;
    let mesh_client = partial::calling(&[], mesh_server.address()?).pop().map(OperationsClient::new);
    let mesh_client = mesh_client.ok_or_else(|| anyhow::anyhow!("a channel has no layers"))?;
    let mut tonics = Vec::new();
    for &callers in plan.callers {
        let (mut mesh_calls, mut others) = (Measured::default(), Measured::default());
        round(std::slice::from_ref(&mesh_client), callers, plan.turn / 4).await?;
        let connections = connections(mesh_server.address()?).unwrap_or(1);
        while tonics.len() < connections {
            let channel = Channel::from_shared(tonic_server.url.clone())?.connect().await?;
            tonics.push(OperationsClient::new(channel));
        }
        round(&tonics, callers, plan.turn / 4).await?;
        for _ in 0..plan.rounds {
            mesh_calls.push(round(std::slice::from_ref(&mesh_client), callers, plan.turn).await?);
            others.push(round(&tonics, callers, plan.turn).await?);
        }
        let goals = if callers == 64 { ["0.95 ×", "", "1.1 ×"] } else { [""; 3] };
        let what = |what| format!("{what}, callers: {callers}, connections: {connections}");
        report.compare(&what("calls/s"), &mesh_calls.rate, "bare tonic", &others.rate, goals[0]);
        report.compare(&what("µs a call, p50"), &mesh_calls.p50, "bare tonic", &others.p50, goals[1]);
        report.compare(&what("µs a call, p99"), &mesh_calls.p99, "bare tonic", &others.p99, goals[2]);
    }
    Ok(())
}

/// Returns calls a second, and the microseconds of each call.
async fn round<T>(clients: &[OperationsClient<T>], callers: usize, time: Duration) -> anyhow::Result<(f64, Samples)>
where
    T: GrpcService<Body, Error: Into<StdError>, ResponseBody: Send + 'static, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes, Error: Into<StdError> + Send>,
{
    let (begin, mut asking, mut all) = (Instant::now(), JoinSet::new(), Samples::default());
    for mut client in clients.iter().cycle().take(callers).cloned() {
        asking.spawn(async move {
            let mut took = Vec::new();
            while begin.elapsed() < time {
                let asked = Instant::now();
                call(&mut client).await?;
                took.push(asked.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    while let Some(took) = asking.join_next().await {
        took??.iter().for_each(|took| all.push(took.as_secs_f64() * 1e6));
    }
    Ok((all.len() as f64 / begin.elapsed().as_secs_f64(), all))
}

/// The number of this machine's connections to a server; `None` without /proc.
fn connections(server: SocketAddr) -> Option<usize> {
    const ESTABLISHED: &str = "01";
    let port = format!(":{:04X}", server.port());
    let sockets = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    // The columns: a number, the local address, the remote address, the state. The server's ends are listed, too.
    let to_server = |line: &&str| {
        let mut words = line.split_whitespace().skip(2);
        words.next().is_some_and(|there| there.ends_with(&port)) && words.next() == Some(ESTABLISHED)
    };
    Some(sockets.lines().filter(to_server).count())
}
