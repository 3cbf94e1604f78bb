//! The life of one connection, and what bounds it: somebody who takes a socket and gives nothing for it must not keep it,
//! and nobody keeps one for ever.
//!
//! A client that says nothing, or half of what it takes to know what it wants, has [`SPEAKS_WITHIN`]. Of HTTP/2 that is
//! the preface; half a frame behind it stands in the way of the answer to a ping, and so does a client that vanished
//! ([`KEEP_ALIVE`]). Longer headers than [`HEAD`] are answered with 431, and the connection goes on. One that resets what
//! it has just begun, again and again, is closed by h2 itself, with ENHANCE_YOUR_CALM. A request that does not arrive is
//! the business of `serve::intake`: it costs its call, and not the connection, which may have others.
//!
//! A connection has an age because connections are what a balancer of TCP spreads: without one, a new instance would have
//! nothing to do until an old one ends. When it has come, the client is told to use another (GOAWAY), and its calls are
//! finished. Its streams may go on for a grace; those that are still there are ended in gRPC's words, so that clients
//! resume them elsewhere. What is left after another grace is cut off: it does not listen, or does not read, or waits in
//! WaitOperation, which is called again. No two connections have the same age, so that those of one moment do not all
//! come back in one moment.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::settings::Limits;

/// A client that takes longer to say what it wants does not want anything.
const SPEAKS_WITHIN: Duration = Duration::from_secs(10);
/// How often a client of HTTP/2 that is silent is asked whether it is there, and how long it has to say so.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// The headers of a request, in bytes. A deadline, a trace and a token are a tenth of it.
const HEAD: u32 = 16 * 1024;
/// Calls and streams of one connection. As many as a process takes calls by default: at this limit clients queue, where
/// nobody sees it, and whoever is too much for a process should hear that from the process.
const STREAMS: u32 = 1000;
/// Calls that are taken back before they were looked at. A process that stood still for a moment finds those that ran out
/// of time meanwhile, and is not to close the connection over them (h2 allows 20).
const RESETS: usize = 200;

/// How HTTP/2 begins, see [RFC 9113](https://www.rfc-editor.org/rfc/rfc9113#section-3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Where a request came from, if it came over the network; in its extensions.
#[derive(Clone)]
pub struct Connection {
    /// Cancelled when its streams have to end.
    pub ending: CancellationToken,
}

/// Answers what comes over a connection until it ends, is too old, or the process drains.
pub(super) async fn serve<A, F>(stream: TcpStream, draining: CancellationToken, limits: Limits, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Small answers are what RPCs are made of: do not wait for more to put into a packet.
    let _ = stream.set_nodelay(true);
    let spoken = tokio::select! {
        spoken = timeout(SPEAKS_WITHIN, speaks(&stream)) => matches!(spoken, Ok(Ok(()))),
        () = draining.cancelled() => false,
    };
    if !spoken {
        return;
    }

    let ending = CancellationToken::new();
    let from = Connection { ending: ending.clone() };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(from.clone());
        let answer = answer.clone();
        // Nothing of it before it is awaited, which a task of its own does: the connection has all the others to read.
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let age = limits.connection_age.mul_f64(0.9 + 0.2 * fastrand::f64());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            // The drain ends the streams, and has a limit of its own.
            connection.await
        }
        () = sleep(age) => {
            connection.as_mut().graceful_shutdown();
            let cut = async {
                sleep(limits.connection_grace).await;
                ending.cancel();
                sleep(limits.connection_grace.max(SPEAKS_WITHIN)).await;
            };
            tokio::select! {
                served = connection => served,
                () = cut => Err("what it had open did not end".into()),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "connection ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The buffer is what bounds a head of HTTP/1.1.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(SPEAKS_WITHIN).max_buf_size(HEAD as usize);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
    http2.max_header_list_size(HEAD).max_concurrent_streams(STREAMS);
    http2.max_pending_accept_reset_streams(RESETS);
    builder
}

/// Until it is known which protocol a client speaks. Nothing is taken out of the stream.
async fn speaks(stream: &TcpStream) -> std::io::Result<()> {
    let mut start = [0; PREFACE.len()];
    loop {
        let length = stream.peek(&mut start).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if length == PREFACE.len() || !PREFACE.starts_with(&start[..length]) {
            return Ok(());
        }
        // A socket with half a preface is readable all the time: there is nothing to wait for but time.
        sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    /// A client, and the server's end of its connection, which answers nothing.
    async fn connect(limits: Limits) -> (TcpStream, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let silent = |_| std::future::pending();
        (client, tokio::spawn(serve(stream, CancellationToken::new(), limits, silent)))
    }

    /// How long a client that sends `bytes` and then nothing has its connection.
    async fn lives(bytes: &[u8], limits: Limits) -> Duration {
        let (mut client, server) = connect(limits).await;
        let start = Instant::now();
        client.write_all(bytes).await.unwrap();
        server.await.unwrap();
        // And closed it is.
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        start.elapsed()
    }

    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

    #[tokio::test(start_paused = true)]
    async fn who_does_not_say_what_it_wants_is_not_waited_for() {
        for bytes in
            ["", "P", "PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "GET /met", "GET / HTTP/1.1\r\nhost: a\r\n"]
        {
            let lived = lives(bytes.as_bytes(), Limits::default()).await;
            assert!((SPEAKS_WITHIN..SPEAKS_WITHIN * 2).contains(&lived), "{bytes:?}: {lived:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_answers_no_ping_is_gone() {
        let half_a_head = [0, 0, 50, 1, 4, 0, 0, 0, 1, 0x83];
        for rest in [&[][..], &half_a_head[..], &half_a_head[..4]] {
            let lived = lives(&[PREFACE, SETTINGS, rest].concat(), Limits::default()).await;
            assert!((KEEP_ALIVE..=KEEP_ALIVE * 3).contains(&lived), "{rest:?}: {lived:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_hear_that_it_is_old_is_cut() {
        let limits = Limits {
            connection_age: Duration::from_secs(100),
            connection_grace: Duration::from_secs(20),
            ..Limits::default()
        };
        let (mut client, server) = connect(limits).await;
        let start = Instant::now();
        // A request that nobody answers, by a protocol without pings.
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        server.await.unwrap();
        let lived = start.elapsed();
        assert!((Duration::from_secs(130)..Duration::from_secs(151)).contains(&lived), "{lived:?}");
    }
}
