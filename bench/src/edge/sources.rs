//! Measures event sources: the memory of idle ones, and the deliveries when all of them follow one operation. Each has
//! a connection of HTTP/1.1, as a page without TLS has it; idle ones also share connections of HTTP/2, as browsers do
//! with TLS. The server is in a process of its own, as for [`memory`](crate::memory) and
//! [`deliveries`](crate::deliveries).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::plan::Plan;
use crate::limit::Limit;
use crate::machine::{Engine, Machine, Place};
use crate::report::{Report, Samples};
use crate::server::{Server, cpu_time};

/// The number of sources that are opened at the same time.
const AT_ONCE: usize = 200;
/// The number of operations that are stored at once.
const BATCH: usize = 1_000;
/// The pause until the memory for opening sources is free again.
const SETTLE: Duration = Duration::from_secs(1);
/// What ends a frame. Nothing else of an answer has it.
const END: &[u8] = b"\n\n";

/// The memory of an idle source: each follows an operation of its own, which no worker runs.
pub(super) async fn idle(machine: &Machine, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    for (name, shared_by, goal) in [("HTTP/1.1", 1, ""), ("HTTP/2, 100 a connection", 100, "16")] {
        let what = format!("KB per idle event source, {name}, sources: {}", plan.idle);
        let place = machine.place(Engine::Sqlite, &format!("idle-{shared_by}")).await?.map_err(anyhow::Error::msg)?;
        let served = place.clone();
        let server = tokio::task::spawn_blocking(move || Server::start(&served, 0)).await??;
        let names = store(&place, plan.idle).await?;
        let Some(before) = server.resident() else {
            report.missing(&what, "needs /proc of Linux");
            continue;
        };
        let address = server.address()?;
        let mut sources = Vec::new();
        for names in names.chunks(AT_ONCE) {
            let opening: JoinSet<_> = if shared_by == 1 {
                names.iter().cloned().map(|name| Idle::http1(address, name)).collect()
            } else {
                names.chunks(shared_by).map(|names| Idle::http2(address, names.to_vec())).collect()
            };
            for opened in opening.join_all().await {
                sources.push(opened?);
            }
        }
        tokio::time::sleep(SETTLE).await;
        let mut samples = Samples::default();
        let after = server.resident().ok_or_else(|| anyhow!("the server has ended"))?;
        samples.push((after - before) / plan.idle as f64 / 1000.0);
        report.alone(&what, &samples, goal);
    }
    Ok(())
}

/// Stores operations, and returns their names.
async fn store(place: &Place, operations: usize) -> anyhow::Result<Vec<String>> {
    let (mut limit, mut names) = (Limit::open(place).await?, Vec::new());
    while names.len() < operations {
        let ids = limit.sets(BATCH.min(operations - names.len())).await?;
        names.extend(ids.iter().map(|id| format!("services/bench/operations/{id}")));
    }
    Ok(names)
}

/// Open sources, held and not read.
enum Idle {
    Http1 { _source: Source },
    Http2 { _sources: Vec<Incoming> },
}

impl Idle {
    async fn http1(server: SocketAddr, name: String) -> anyhow::Result<Self> {
        Ok(Self::Http1 { _source: Source::open(server, name).await? })
    }

    /// Opens a source for each name on one connection, and reads its first frame.
    async fn http2(server: SocketAddr, names: Vec<String>) -> anyhow::Result<Self> {
        let io = TokioIo::new(TcpStream::connect(server).await?);
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        let mut sources = Vec::new();
        for name in names {
            sender.ready().await?;
            let uri = format!("http://localhost:{}{}", server.port(), path(&name));
            let request = Request::get(uri).header("accept", "text/event-stream").body(Empty::<Bytes>::new())?;
            let mut source = sender.send_request(request).await?;
            ensure!(source.status().is_success(), "no stream: {}", source.status());
            source.frame().await.ok_or_else(|| anyhow!("the stream ends"))??;
            sources.push(source.into_body());
        }
        Ok(Self::Http2 { _sources: sources })
    }
}

/// The deliveries of one operation, which reports one step after the other.
pub(super) async fn deliveries(machine: &Machine, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    let place = machine.place(Engine::Sqlite, "sources").await?.map_err(anyhow::Error::msg)?;
    let server = tokio::task::spawn_blocking(move || Server::start(&place, 1)).await??;
    let name = server.reporting.first().cloned().ok_or_else(|| anyhow!("nothing reports"))?;
    let (arrived, mut following) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
    for _ in 0..plan.sources {
        let source = Source::open(server.address()?, name.clone()).await?;
        following.spawn(source.count(Arc::clone(&arrived)));
    }
    let (mut rate, mut cpu) = (Samples::default(), Samples::default());
    for _ in 0..plan.rounds {
        let (begin, first, before) = (Instant::now(), arrived.load(Ordering::Relaxed), cpu_time(server.id()));
        tokio::select! {
            () = tokio::time::sleep(plan.turn) => {}
            Some(ended) = following.join_next() => ended??,
        }
        let (seconds, after) = (begin.elapsed().as_secs_f64(), cpu_time(server.id()));
        let arrived = f64::from(arrived.load(Ordering::Relaxed).wrapping_sub(first));
        rate.push(arrived / seconds);
        let used = after.zip(before).map(|(after, before)| after - before);
        used.into_iter().for_each(|used| cpu.push(used.as_secs_f64() * 1e6 / arrived));
    }
    report.alone(&format!("deliveries/s to event sources: {}", plan.sources), &rate, "50,000");
    let what = "µs of CPU a delivery, server";
    match cpu.len() {
        0 => report.missing(what, "needs /proc"),
        _ => report.alone(what, &cpu, ""),
    }
    Ok(())
}

/// Follows an operation with all progress, and with the longest interval, so that an idle source stays idle.
fn path(name: &str) -> String {
    format!("/v1/{name}:watch?progress=PROGRESS_ALL&heartbeat=30s")
}

/// An open event source, read without a parser: the process that counts shares the cores with the one that is measured.
struct Source {
    stream: TcpStream,
}

impl Source {
    /// Opens a source and reads until the end of its first frame.
    async fn open(server: SocketAddr, name: String) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(server).await?;
        let head = format!("GET {} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n", path(&name));
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(END) && !answer.windows(END.len()).any(|end| end == END) {
            ensure!(stream.read_buf(&mut answer).await? > 0, "no stream: {}", String::from_utf8_lossy(&answer));
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "no stream: {}", String::from_utf8_lossy(&answer));
        Ok(Self { stream })
    }

    /// Counts the frames that arrive. It ends with an error only.
    async fn count(mut self, arrived: Arc<AtomicU32>) -> anyhow::Result<()> {
        let (mut buffer, mut last) = (vec![0; 16 * 1024], 0);
        loop {
            let read = self.stream.read(&mut buffer).await?;
            ensure!(read > 0, "a stream has ended");
            let mut frames = 0;
            for &byte in &buffer[..read] {
                frames += u32::from(last == b'\n' && byte == b'\n');
                last = byte;
            }
            arrived.fetch_add(frames, Ordering::Relaxed);
        }
    }
}
