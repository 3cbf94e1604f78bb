//! Serves one connection, within limits.
//!
//! Guarantees:
//! - A client that does not complete its first bytes is disconnected after [`PREFACE_TIMEOUT`]: the HTTP/2 preface with
//!   its first frame, or the head of an HTTP/1.1 request. Before them, a handshake of TLS has [`HANDSHAKE_TIMEOUT`].
//! - An HTTP/2 client that does not answer pings is disconnected after at most twice [`KEEP_ALIVE`]. A client that
//!   stops within a frame does not answer them.
//! - The head of an HTTP/1.1 request above [`MAX_HEADER_BYTES`], and headers above [`MAX_HTTP_2_HEADER_BYTES`], are
//!   answered with 431. Between them, `deadline` answers a call with RESOURCE_EXHAUSTED, and the edge another request
//!   with
//!   431. h2 closes a connection that
//!   resets new streams again and again, with ENHANCE_YOUR_CALM.
//! - At the configured age, the client receives GOAWAY and finishes its calls elsewhere. After the grace period,
//!   streams end with a status. After another one, the connection is closed. The same happens, without the first
//!   period, when the authority of the client's certificate is no longer trusted.
//!
//! The age spreads connections over new instances. It is random within a tenth, so that clients do not reconnect at the
//! same moment.
//!
//! Does not: bound the arrival of a request; `body_limit` does.
//!
//! See: decision 0001.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::handshakes::Handshakes;
use super::head_limit::MAX_HEADER_BYTES;
use super::prefixed::Prefixed;
use super::settings::Limits;
use super::{start, tls};
use crate::call::{CONNECTION_WINDOW, Connection, STREAM_WINDOW};
use crate::identity::{Snapshot, Source, Trust, left, lost, not_after, rejection};

/// The limit for the first bytes of a client.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for a handshake of TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(8);
/// The interval and the timeout of HTTP/2 pings.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The headers that HTTP/2 takes: far more than a call may have, so that gRPC can refuse the call.
const MAX_HTTP_2_HEADER_BYTES: u32 = 256 * 1024;
/// Calls and streams of one connection. Equal to the default of `limits.in_flight`: at a lower limit clients would
/// queue calls where neither metrics nor load shedding see them.
const MAX_CONCURRENT_STREAMS: u32 = 1000;
/// Streams that a client may reset before they are read. The default of h2 is 20. A process that was stopped for a
/// moment finds many expired calls, and must not close the connection for them.
const MAX_PENDING_RESETS: usize = 200;

/// The TLS of a connection.
pub(super) struct Handshake {
    pub(super) config: Arc<ServerConfig>,
    /// The certificates of the mesh, and those of `config`, if clients need one of them.
    pub(super) identity: Option<(Source, Arc<Snapshot>)>,
    /// Those of the listener.
    pub(super) all: Arc<Handshakes>,
}

/// The client of a connection.
struct Peer {
    client: Option<SocketAddr>,
    /// The service that its certificate names.
    service: Option<String>,
    trust: Option<Trust>,
}

/// Serves a connection until it ends, reaches its age, or the process drains.
pub(super) async fn serve<A, F>(
    stream: TcpStream,
    tls: Option<Handshake>,
    draining: CancellationToken,
    limits: Limits,
    answer: A,
) where
    A: Fn(Request<Incoming>, Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // RPCs are small: send each packet at once.
    let _ = stream.set_nodelay(true);
    let client = stream.peer_addr().ok();
    let Some(Handshake { config, identity, all }) = tls else {
        return serve_stream(stream, Peer { client, service: None, trust: None }, draining, limits, answer).await;
    };
    let Some(pending) = all.begin(client) else { return };
    // In boxes, so that a connection without TLS needs no memory for them.
    let accepted = tokio::select! {
        accepted = timeout(HANDSHAKE_TIMEOUT, Box::pin(rejection::with_claim(tls::accept(config, stream)))) => accepted,
        () = draining.cancelled() => return,
    };
    drop(pending);
    match accepted {
        Ok((Ok(stream), _)) => {
            all.succeeded();
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let limits = until(limits, chain.first().and_then(|certificate| not_after(certificate)));
            let identity = identity.zip(chain.first());
            let service = identity.as_ref().and_then(|((_, checked), certificate)| checked.service(certificate));
            let trust = identity.map(|((source, checked), _)| Trust::of(source, checked, chain));
            Box::pin(serve_stream(stream, Peer { client, service, trust }, draining, limits, answer)).await;
        }
        Ok((Err(error), claimed)) => match rejection::reason(&error) {
            Some(reason) => all.failed(reason, &error.to_string(), client, claimed),
            None => all.gone(&error.to_string(), client),
        },
        Err(_) => all.failed("TIMEOUT", "the handshake was not completed in time", client, None),
    }
}

/// The limits of a connection that ends with the certificate of its client. The age varies by a tenth.
fn until(limits: Limits, end: Option<SystemTime>) -> Limits {
    let Some(left) = end.map(left) else { return limits };
    let connection_age = limits.connection_age.min(left.mul_f64(0.8));
    Limits { connection_age, connection_grace: limits.connection_grace.min(left.mul_f64(0.1)), ..limits }
}

/// Serves `stream`, whose bytes are HTTP/1.1 or HTTP/2.
async fn serve_stream<I, A, F>(mut stream: I, peer: Peer, draining: CancellationToken, limits: Limits, answer: A)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>, Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let start = tokio::select! {
        start = timeout(PREFACE_TIMEOUT, start::read(&mut stream)) => start,
        () = draining.cancelled() => return,
    };
    let Ok(Ok(start)) = start else { return };
    let is_http2 = start.is_http_2;
    let (ending, unused) = (CancellationToken::new(), CancellationToken::new());
    let (from, answer) =
        (Connection::of_service(ending.clone(), peer.client, peer.service, unused.clone()), Arc::new(answer));
    let service = service_fn(move |request: Request<Incoming>| {
        let (answer, from) = (Arc::clone(&answer), from.clone());
        let asks_for_head = is_http2 && request.method() == Method::HEAD;
        // The call starts in a task of its own when it is polled: the connection has other requests to read.
        async move {
            let response = answer(request, from).await;
            Ok::<_, Infallible>(if asks_for_head { without_body(response) } else { response })
        }
    });
    let age = pin!(sleep(limits.connection_age.mul_f64(0.9 + 0.2 * fastrand::f64())));
    let mut over = Over { age, grace: limits.connection_grace, trust: peer.trust };
    let close = async |grace: Duration| {
        sleep(grace).await;
        ending.cancel();
        sleep(grace.max(PREFACE_TIMEOUT)).await;
    };
    let io = TokioIo::new(Prefixed::new(start.bytes, stream));
    // In boxes, because each would be in this future more than once.
    let http = if is_http2 {
        let connection = Box::pin(http2().serve_connection(io, service));
        until_closed(connection, |http| http.graceful_shutdown(), &draining, &mut over, close).await
    } else {
        let connection = Box::pin(http1().serve_connection(io, service).with_upgrades());
        until_closed(connection, |http| http.graceful_shutdown(), &draining, &mut over, close).await
    };
    if let Err(error) = http {
        tracing::debug!(error, "connection ended");
        return;
    }
    // What the connection was upgraded to has its age, and counts as a connection. Otherwise nothing uses it any more.
    let closed = async { close(over.wait().await).await };
    let drained = async {
        draining.cancelled().await;
        ending.cancel();
        // The drain has a limit of its own.
        unused.cancelled().await;
    };
    tokio::select! {
        () = unused.cancelled() => {}
        () = closed => {}
        () = drained => {}
    }
}

/// When a connection has to end.
struct Over<'a> {
    age: Pin<&'a mut Sleep>,
    grace: Duration,
    trust: Option<Trust>,
}

impl Over<'_> {
    /// Waits until then, and returns how long its streams may go on. May be called again.
    async fn wait(&mut self) -> Duration {
        tokio::select! {
            () = self.age.as_mut() => self.grace,
            () = lost(self.trust.as_ref()) => Duration::ZERO,
        }
    }
}

/// Waits until the connection ends or is upgraded. `shut_down` lets it finish its calls.
async fn until_closed<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<Box<C>>,
    shut_down: fn(Pin<&mut C>),
    draining: &CancellationToken,
    over: &mut Over<'_>,
    close: impl AsyncFnOnce(Duration),
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let grace = tokio::select! {
        served = connection.as_mut() => return Ok(served?),
        () = draining.cancelled() => {
            shut_down(connection.as_mut());
            // The drain ends the streams, within its own limit.
            return Ok(connection.await?);
        }
        grace = over.wait() => grace,
    };
    shut_down(connection.as_mut());
    tokio::select! {
        served = connection => Ok(served?),
        () = close(grace) => Err("its calls did not end within the grace period".into()),
    }
}

/// The answer to HEAD: the headers of an answer with its body. hyper leaves the body out of HTTP/1.1 alone.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|_| !head.headers.contains_key(CONTENT_LENGTH)) {
        head.headers.insert(CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, Body::empty())
}

fn http1() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The size of the buffer bounds the head.
    builder.timer(TokioTimer::new()).header_read_timeout(PREFACE_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
    builder
}

fn http2() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    builder.max_header_list_size(MAX_HTTP_2_HEADER_BYTES).max_concurrent_streams(MAX_CONCURRENT_STREAMS);
    builder.max_pending_accept_reset_streams(MAX_PENDING_RESETS);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    builder
}

#[cfg(test)]
mod tests;
