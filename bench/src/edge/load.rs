//! Requests over loopback: callers that call again when they have their answer, and the CPU time that these take.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::calls::peer;
use crate::report::Samples;
use crate::server::cpu_time;

/// One of the callers of a server.
pub(crate) enum Caller {
    /// On an HTTP/1.1 connection of its own.
    Http1(http1::SendRequest<Empty<Bytes>>),
    /// On an HTTP/2 connection, which callers may share.
    Http2(SocketAddr, http2::SendRequest<Empty<Bytes>>),
    /// By gRPC, without JSON.
    Grpc(OperationsClient<Channel>),
}

impl Caller {
    pub(crate) async fn http1(server: SocketAddr) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(connect(server).await?)).await?;
        tokio::spawn(connection);
        Ok(Self::Http1(sender))
    }

    pub(super) async fn http2(server: SocketAddr) -> anyhow::Result<Self> {
        let io = TokioIo::new(connect(server).await?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Self::Http2(server, sender))
    }

    pub(super) async fn grpc(server: SocketAddr) -> anyhow::Result<Self> {
        let channel = Channel::from_shared(format!("http://{server}"))?.connect().await?;
        Ok(Self::Grpc(OperationsClient::new(channel)))
    }

    /// One more caller on the same connection, if it can be shared.
    pub(super) fn beside(&self) -> Option<Self> {
        match self {
            Self::Http1(..) => None,
            Self::Http2(server, sender) => Some(Self::Http2(*server, sender.clone())),
            Self::Grpc(client) => Some(Self::Grpc(client.clone())),
        }
    }

    /// Returns the body of the answer, which is empty for gRPC.
    pub(crate) async fn call(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let answer = match self {
            Self::Http1(sender) => {
                // The sender is ready again once the answer before is read.
                sender.ready().await?;
                sender.send_request(Request::get(path).header("host", "localhost").body(Empty::new())?).await?
            }
            Self::Http2(server, sender) => {
                sender.ready().await?;
                let uri = format!("http://localhost:{}{path}", server.port());
                sender.send_request(Request::get(uri).body(Empty::new())?).await?
            }
            Self::Grpc(client) => return peer::call(client).await.map(|()| Bytes::new()),
        };
        body(answer).await
    }
}

/// Callers with a connection each.
pub(super) async fn apart(
    number: usize,
    mut caller: impl AsyncFnMut() -> anyhow::Result<Caller>,
) -> anyhow::Result<Vec<Caller>> {
    let mut callers = Vec::new();
    for _ in 0..number {
        callers.push(caller().await?);
    }
    Ok(callers)
}

async fn connect(server: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn body(answer: Response<Incoming>) -> anyhow::Result<Bytes> {
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
    Ok(body)
}

/// The results of one side: one number a turn.
#[derive(Default)]
pub(super) struct Measured {
    /// Requests a second.
    pub(super) rate: Samples,
    /// CPU time of a request, in microseconds. Empty without /proc.
    pub(super) cpu: Samples,
}

/// Makes `requests` requests to `path`, and measures the CPU time of `process`.
pub(super) async fn turn(
    callers: &mut Vec<Caller>,
    process: u32,
    path: &'static str,
    requests: usize,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let (begun, mut calling) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let (before, begin) = (cpu_time(process), Instant::now());
    for mut caller in callers.drain(..) {
        let begun = Arc::clone(&begun);
        calling.spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < requests {
                caller.call(path).await?;
            }
            anyhow::Ok(caller)
        });
    }
    while let Some(caller) = calling.join_next().await {
        callers.push(caller??);
    }
    let (took, after) = (begin.elapsed(), cpu_time(process));
    measured.rate.push(requests as f64 / took.as_secs_f64());
    if let Some((before, after)) = before.zip(after) {
        measured.cpu.push((after - before).as_secs_f64() * 1e6 / requests as f64);
    }
    Ok(())
}
