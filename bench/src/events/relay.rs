//! Measures the relay to NATS JetStream: a service that was published to no broker before passes on the events of its
//! log.
//!
//! The reference publishes as many messages of the same size to the same server, with as many that are not
//! acknowledged, and reads nothing. By default neither is durable: JetStream acknowledges before it flushes.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mesh_carrier::async_nats;
use mesh_carrier::async_nats::jetstream::message::PublishMessage;
use mesh_carrier::async_nats::jetstream::{self, stream::Config};
use prost::Message as _;

use super::plan::Plan;
use super::site::{Made, SERVICE, Site};
use crate::machine::Place;
use crate::report::{Report, Samples};

/// The messages that are not acknowledged, as many as the relay has.
const PAGE: usize = 256;
/// The limit for a round.
const LIMIT: Duration = Duration::from_secs(120);

/// A server with its store in a folder. A drop kills it.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    async fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new(program);
        command.args(["--jetstream", "--addr", "127.0.0.1", "--port", &address.port().to_string(), "--store_dir"]);
        command.arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { child: command.spawn().context("nats-server does not start")?, address };
        let begin = Instant::now();
        while async_nats::connect(server.url()).await.is_err() {
            ensure!(begin.elapsed() < LIMIT, "nats-server does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(server)
    }

    fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server in `.tools/bin` or on PATH.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin");
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("nats-server")).find(|program| program.is_file())
}

pub(super) async fn measure(place: &Place, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let what = format!("events relayed/s, {}", place.engine);
    let Some(program) = program() else {
        report.missing(&what, "no nats-server: `scripts/tools nats` installs it");
        return Ok(());
    };
    let site = Site::start(place).await?;
    site.fill(plan.behind).await?;
    site.stop().await;
    let [mut relayed, mut alone] = [(); 2].map(|()| Samples::default());
    for _ in 0..plan.rounds {
        // A new store for each side: a relay goes on behind what the broker has.
        let folder = tempfile::tempdir_in(&place.folder)?;
        let server = Server::start(&program, &folder.path().join("relay")).await?;
        relayed.push(relay(place, &server).await?);
        drop(server);
        let server = Server::start(&program, &folder.path().join("alone")).await?;
        alone.push(publish(&server, plan.behind).await?);
    }
    report.compare(&what, &relayed, "NATS alone", &alone, "20,000");
    Ok(())
}

/// Events a second, from the first that the broker has to the last one.
async fn relay(place: &Place, server: &Server) -> anyhow::Result<f64> {
    let broker = jetstream::new(async_nats::connect(server.url()).await?);
    let site = Site::start_relaying(place, &server.url()).await?;
    let head: i64 = sqlx::query_scalar("SELECT head FROM events_head").fetch_one(site.store.reader()).await?;
    let (head, begin, mut first) = (u64::try_from(head)?, Instant::now(), None);
    loop {
        let stream = broker.get_stream(format!("events-{SERVICE}")).await;
        let have = stream.map_or(0, |stream| stream.cached_info().state.last_sequence);
        if have > 0 {
            first.get_or_insert((Instant::now(), have));
        }
        if have == head {
            break;
        }
        ensure!(begin.elapsed() < LIMIT, "the broker has {have} of {head} events");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // All of them may have been there at once.
    let (since, had) = first.filter(|(_, had)| *had < head).unwrap_or((begin, 0));
    let took = since.elapsed();
    site.stop().await;
    Ok((head - had) as f64 / took.as_secs_f64())
}

/// Messages a second.
async fn publish(server: &Server, count: usize) -> anyhow::Result<f64> {
    let broker = jetstream::new(async_nats::connect(server.url()).await?);
    broker.create_stream(Config { name: "alone".into(), subjects: vec!["alone".into()], ..Config::default() }).await?;
    let begin = Instant::now();
    for _ in 0..count.div_ceil(PAGE) {
        let mut acks = Vec::with_capacity(PAGE);
        for _ in 0..PAGE {
            let message = PublishMessage::build().payload(Made::new().encode_to_vec().into());
            acks.push(broker.send_publish("alone", message).await?);
        }
        for ack in acks {
            ack.await?;
        }
    }
    Ok((count.div_ceil(PAGE) * PAGE) as f64 / begin.elapsed().as_secs_f64())
}
