//! The accept loop: HTTP/1.1 and HTTP/2 on one port.

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

/// The pause after a failed accept, for example without free file descriptors.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Binds `address`. `setting` names the setting of the address, for the error.
///
/// # Errors
///
/// The address is in use, or does not belong to this machine. The message says what to do.
pub(super) async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        let why = match cause.kind() {
            std::io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            _ => cause.to_string(),
        };
        anyhow::anyhow!(
            "cannot listen on {address}: {why}; choose another address with {setting} (port 0 picks a free one)"
        )
    })
}

/// Serves connections with `answer` until `draining` is cancelled. Each connection is one of `tasks`, and ends when its
/// calls have finished.
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
            // The listener closes: new connections are refused, and clients try another instance at once.
            () = draining.cancelled() => return,
        };
        let failed = failing;
        failing = accepted.is_err();
        match accepted {
            Ok((stream, _)) => tasks.run(connection::serve(stream, draining.clone(), limits, answer.clone())),
            Err(error) => {
                // The error concerns one connection or the machine, and the server continues. Only the first of
                // consecutive errors is logged.
                if !failed {
                    tracing::warn!(%error, "cannot accept a connection");
                }
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
}
