//! Measures mesh and bare tonic over loopback: each with a server in a process of its own, and with more and more
//! callers, which call again when they have their answer. mesh opens connections on demand; tonic gets as many.
//!
//! A turn is a number of calls, not a time: short turns let a machine's other load meet both sides, and the same number
//! of calls makes their CPU time comparable. CPU time a call varies far less than calls a second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

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
use crate::server::{Server, cpu_time};

/// One side: its clients in this process, and its server in another one.
pub(crate) struct Pair<T> {
    pub(crate) clients: Vec<OperationsClient<T>>,
    pub(crate) server: Server,
}

/// The results of one side with one number of callers: one number a turn.
#[derive(Default)]
pub(crate) struct Measured {
    rate: Samples,
    p50: Samples,
    p99: Samples,
    /// CPU time of a call, in microseconds. Empty without /proc.
    server: Samples,
    client: Samples,
}

pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    // A calling process also serves: it has everything that a process of mesh has.
    let _mesh = Mesh::start(service()).await;
    let servers = tokio::task::spawn_blocking(|| anyhow::Ok((Side::Mesh.server()?, Side::Tonic.server()?)));
    let (mesh_server, tonic_server) = servers.await??;
    let address = mesh_server.address()?;
    let clients: Vec<_> = partial::calling(&[], address).pop().map(OperationsClient::new).into_iter().collect();
    let mesh = Pair { clients, server: mesh_server };
    let mut tonic = Pair { clients: Vec::new(), server: tonic_server };
    for &callers in plan.callers {
        mesh.turn(callers, plan.calls, &mut Measured::default()).await?;
        let connections = connections(address).unwrap_or(1);
        while tonic.clients.len() < connections {
            let channel = Channel::from_shared(tonic.server.url.clone())?.connect().await?;
            tonic.clients.push(OperationsClient::new(channel));
        }
        tonic.turn(callers, plan.calls, &mut Measured::default()).await?;
        let (mut ours, mut theirs) = (Measured::default(), Measured::default());
        for _ in 0..plan.rounds {
            mesh.turn(callers, plan.calls, &mut ours).await?;
            tonic.turn(callers, plan.calls, &mut theirs).await?;
        }
        let what = format!("callers: {callers}, connections: {connections}");
        ours.compare(&theirs, "bare tonic", &what, goals(callers), report);
    }
    Ok(())
}

/// The goals of the rows of a number of callers.
fn goals(callers: usize) -> [&'static str; 5] {
    let rate = match callers {
        1 | 16 | 64 => "0.90 ×",
        1024 => "0.85 ×",
        _ => "",
    };
    let p99 = if callers == 64 { "1.1 ×" } else { "" };
    [rate, "", p99, "1.10 ×", ""]
}

impl Measured {
    /// Adds a row of each measure, beside a reference that was measured in the same rounds.
    pub(crate) fn compare(&self, reference: &Self, name: &str, of: &str, goals: [&str; 5], report: &mut Report) {
        let rows = [
            ("calls/s", &self.rate, &reference.rate),
            ("µs a call, p50", &self.p50, &reference.p50),
            ("µs a call, p99", &self.p99, &reference.p99),
            ("µs of CPU a call, server", &self.server, &reference.server),
            ("µs of CPU a call, client", &self.client, &reference.client),
        ];
        for ((what, ours, theirs), goal) in rows.into_iter().zip(goals) {
            let what = format!("{what}, {of}");
            match ours.len() {
                0 => report.missing(&what, "needs /proc"),
                _ => report.compare(&what, ours, name, theirs, goal),
            }
        }
    }
}

impl<T> Pair<T>
where
    T: GrpcService<Body, Error: Into<StdError>, ResponseBody: Send + 'static, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes, Error: Into<StdError> + Send>,
{
    /// Makes `calls` calls.
    pub(crate) async fn turn(&self, callers: usize, calls: usize, measured: &mut Measured) -> anyhow::Result<()> {
        let cpu = || (cpu_time(self.server.id()), cpu_time(std::process::id()));
        let (before, begin) = (cpu(), Instant::now());
        let micros = self.calls(callers, calls).await?;
        let (took, after) = (begin.elapsed(), cpu());
        let made = micros.len() as f64;
        measured.rate.push(made / took.as_secs_f64());
        measured.p50.push(micros.percentile(0.5));
        measured.p99.push(micros.percentile(0.99));
        for (samples, before, after) in
            [(&mut measured.server, before.0, after.0), (&mut measured.client, before.1, after.1)]
        {
            if let (Some(before), Some(after)) = (before, after) {
                samples.push((after - before).as_secs_f64() * 1e6 / made);
            }
        }
        Ok(())
    }

    /// Returns the microseconds of each call.
    async fn calls(&self, callers: usize, calls: usize) -> anyhow::Result<Samples> {
        let (begun, mut asking, mut all) = (Arc::new(AtomicUsize::new(0)), JoinSet::new(), Samples::default());
        for mut client in self.clients.iter().cycle().take(callers).cloned() {
            let begun = Arc::clone(&begun);
            asking.spawn(async move {
                let mut took = Vec::new();
                while begun.fetch_add(1, Ordering::Relaxed) < calls {
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
        Ok(all)
    }
}

/// The number of this machine's connections to a server; `None` without /proc.
pub(crate) fn connections(server: SocketAddr) -> Option<usize> {
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
