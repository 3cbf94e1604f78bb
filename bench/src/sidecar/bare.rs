//! Callers and a service of bare HTTP/2, with one thread each. They encode nothing, and do as little as HTTP/2 lets them,
//! so that calls a second say more of what is between them than with callers and a service of tonic.

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes};
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};

use crate::calls::peer::{operation, request};
use crate::server::{Server, until_its_input_ends};

const GET: &str = "http://bench/google.longrunning.Operations/GetOperation";
/// The limit of concurrent calls on a connection, the same as mesh's.
const STREAMS: u32 = 1000;
const GRPC: &str = "application/grpc";
const STATUS: &str = "grpc-status";

/// A connection to the service, which may have something between. The clones share it.
#[derive(Clone)]
pub(super) struct Caller {
    connection: SendRequest<Bytes>,
    message: Bytes,
}

impl Caller {
    pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = h2::client::handshake(stream).await?;
        // It ends with the last clone, or fails the calls.
        tokio::spawn(connection);
        Ok(Self { connection: send, message: framed(&request()) })
    }

    /// Makes a call.
    ///
    /// # Errors
    ///
    /// The connection broke, or the answer is no success.
    pub(super) async fn call(&self) -> anyhow::Result<()> {
        let asked = Request::post(GET).header("content-type", GRPC).header("te", "trailers").body(())?;
        let mut connection = self.connection.clone().ready().await?;
        let (answer, mut body) = connection.send_request(asked, false)?;
        body.send_data(self.message.clone(), true)?;
        let (head, mut body) = answer.await?.into_parts();
        let received = read(&mut body).await?;
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        let is_ok = trailers.get(STATUS).is_some_and(|status| status == "0");
        ensure!(head.status == 200 && is_ok && received > 0, "{}, {trailers:?}", head.status);
        Ok(())
    }
}

/// Starts the service in a process of its own.
pub(super) async fn start() -> anyhow::Result<(Server, SocketAddr)> {
    let server = tokio::task::spawn_blocking(|| Server::run(["serve-bare"])).await??;
    let address = server.address()?;
    Ok((server, address))
}

/// Serves in that other process.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    tokio::select! {
        ended = accept(listener) => ended,
        ended = until_its_input_ends() => ended,
    }
}

async fn accept(listener: TcpListener) -> anyhow::Result<()> {
    let answer = framed(&operation());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, answer.clone()));
    }
}

async fn connection(stream: TcpStream, answer: Bytes) -> Result<(), h2::Error> {
    let mut connection = h2::server::Builder::new().max_concurrent_streams(STREAMS).handshake(stream).await?;
    while let Some(called) = connection.accept().await {
        let (request, respond) = called?;
        tokio::spawn(respond_to(request.into_body(), respond, answer.clone()));
    }
    Ok(())
}

async fn respond_to(mut body: RecvStream, mut respond: SendResponse<Bytes>, answer: Bytes) -> anyhow::Result<()> {
    read(&mut body).await?;
    let head = Response::builder().header("content-type", GRPC).body(())?;
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(answer, false)?;
    let status = HeaderMap::from_iter([(http::HeaderName::from_static(STATUS), http::HeaderValue::from_static("0"))]);
    stream.send_trailers(status).context("the caller is gone")
}

/// Reads a body to its end, and returns its length.
async fn read(body: &mut RecvStream) -> anyhow::Result<usize> {
    let mut length = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        length += data.len();
    }
    Ok(length)
}

/// A message in gRPC's frame, which is not compressed.
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let mut framed = Vec::with_capacity(5 + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend(message);
    framed.into()
}
