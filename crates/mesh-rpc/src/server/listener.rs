//! The accept loop: HTTP/1.1 and HTTP/2 on one port, each connection told when to finish.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use mesh_runtime::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::connection;
use super::settings::Limits;

/// What a process out of file descriptors waits before it tries again.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(50);

/// Binds `address`, which was configured by `how`.
///
/// # Errors
///
/// One line that says what to do.
pub(super) async fn bind(address: SocketAddr, how: &str) -> anyhow::Result<TcpListener> {
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
pub(super) async fn serve<A, F>(
    listener: TcpListener,
    draining: CancellationToken,
    tasks: Tasks,
    limits: Limits,
    answer: A,
) where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // From here on nobody reaches this process: clients are refused, and try elsewhere at once.
            () = draining.cancelled() => return,
        };
        let failed = failing;
        failing = accepted.is_err();
        match accepted {
            Ok((stream, _)) => tasks.run(connection::serve(stream, draining.clone(), limits, answer.clone())),
            Err(error) => {
                // Of the connection, or of the machine; neither is a reason to stop serving the others. Said once, not
                // twenty times a second, for as long as a process is out of file descriptors.
                if !failed {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                tokio::time::sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
    }
}
