//! The accept loop: HTTP/1.1 and HTTP/2 on one port, each connection told when to finish.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::tasks::Tasks;

/// A client that takes longer to say what it wants does not want anything.
const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Finds out about clients that vanished without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What a process out of file descriptors waits before it tries again.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

/// Binds `address`, which was configured by `how`.
///
/// # Errors
///
/// One line that says what to do.
pub(crate) async fn bind(address: SocketAddr, how: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        let why = match cause.kind() {
            std::io::ErrorKind::AddrInUse => "another process has it".to_owned(),
            _ => cause.to_string(),
        };
        anyhow::anyhow!(
            "cannot listen on {address}: {why}; choose another address with {how} (port 0 picks a free one)"
        )
    })
}

/// Serves `answer` until `draining`. Each connection is one of `tasks`, and ends when it has finished what it had begun.
pub(crate) async fn serve<A, F>(listener: TcpListener, draining: CancellationToken, tasks: Tasks, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // From here on nobody reaches this process: clients are refused, and try elsewhere at once.
            () = draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, _)) => tasks.run(connection(stream, draining.clone(), answer.clone())),
            Err(error) => {
                // Of the connection, or of the machine; neither is a reason to stop serving the others.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
    }
}

async fn connection<A, F>(stream: TcpStream, draining: CancellationToken, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    // Small answers are what RPCs are made of: do not wait for more to put into a packet.
    let _ = stream.set_nodelay(true);

    // The protocol is known by its first bytes, and nothing else bounds the wait for them.
    let silent = tokio::select! {
        spoken = timeout(HEADERS_WITHIN, stream.readable()) => !matches!(spoken, Ok(Ok(()))),
        () = draining.cancelled() => true,
    };
    if silent {
        return;
    }

    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_WITHIN);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);

    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error, "connection ended");
    }
}
