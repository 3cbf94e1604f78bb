//! The accept loop: HTTP/1.1 and HTTP/2 on one port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use mesh_runtime::Tasks;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::connection::{self, Handshake};
use super::settings::Limits;
use crate::call::Connection;

/// The pause after a failed accept, for example without free file descriptors.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The connections that the operating system keeps until they are accepted. Beyond them it drops the first packet of a
/// client, which sends it again a second later: a restart has all its clients connect at once.
const BACKLOG: u32 = 1024;
/// The shortest time between two warnings about refused connections.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Binds `address`. `setting` names the setting of the address, for the error.
///
/// # Errors
///
/// The address is in use, or does not belong to this machine. The message says what to do.
pub(super) async fn bind(address: SocketAddr, setting: &str) -> anyhow::Result<TcpListener> {
    let bound = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart binds its port although connections of the last process are still closing.
        #[cfg(unix)]
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound.await.map_err(|cause: std::io::Error| {
        let why = match cause.kind() {
            std::io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            _ => cause.to_string(),
        };
        anyhow::anyhow!(
            "cannot listen on {address}: {why}; choose another address with {setting} (port 0 picks a free one)"
        )
    })
}

/// The TLS of new connections. It is asked for each: certificates are replaced while the process runs.
pub(super) type TlsOfNew = Arc<dyn Fn() -> Handshake + Send + Sync>;

/// The connections of one listener at the same time.
pub(super) struct Bound {
    pub(super) most: usize,
    /// The name of the bound, for the log.
    pub(super) name: &'static str,
}

/// Serves connections, with `tls` or without, by `answer` until `draining` is cancelled. Each connection is one of
/// `tasks`, and ends when its calls have finished.
pub(super) async fn serve<A, F>(
    listener: TcpListener,
    tls: Option<TlsOfNew>,
    bound: Bound,
    draining: CancellationToken,
    tasks: Tasks,
    limits: Limits,
    answer: A,
) where
    A: Fn(Request<Incoming>, Connection) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(bound.most));
    let mut failing = false;
    let mut refusal_logged: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // The listener closes: new connections are refused, and clients try another instance at once.
            () = draining.cancelled() => return,
        };
        let failed = failing;
        failing = accepted.is_err();
        match accepted {
            Ok((stream, _)) => {
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    // Closed at once: a client that waits in the queue would not try another instance.
                    drop(stream);
                    if refusal_logged.is_none_or(|logged| logged.elapsed() > REFUSAL_LOG_INTERVAL) {
                        tracing::warn!(limit = bound.most, "{} reached: new connections are closed", bound.name);
                        refusal_logged = Some(Instant::now());
                    }
                    continue;
                };
                // In a box: each future around it would have room for it twice.
                let serving = Box::pin(connection::serve(
                    stream,
                    tls.as_ref().map(|tls| tls()),
                    draining.clone(),
                    limits,
                    answer.clone(),
                ));
                tasks.run(async move {
                    serving.await;
                    drop(permit);
                });
            }
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
