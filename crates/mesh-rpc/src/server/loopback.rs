//! A listener without TLS for HTTP/1.1 and HTTP/2: for the app beside a sidecar, and for a dashboard. It is meant for
//! loopback; the dashboard asks readers for a token on another address.
//!
//! Guarantees: a request with an ambiguous head is refused, as on the other listeners.

use std::net::SocketAddr;

use http::Request;
use hyper::body::Incoming;
use mesh_runtime::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::form;
use super::listener::{self, Bound};
use super::ports::Front;
use super::settings::Limits;
use crate::call::{Answering, Connection};

/// The bound listener.
pub struct Loopback(TcpListener);

impl Loopback {
    /// Binds `address`. `how` names its setting, for the error.
    ///
    /// # Errors
    ///
    /// The address is in use, or does not belong to this machine. The message says what to do.
    pub async fn bind(address: SocketAddr, how: &str) -> anyhow::Result<Self> {
        listener::bind(address, how).await.map(Self)
    }

    /// The bound address, with the port in place of port 0.
    ///
    /// # Errors
    ///
    /// The operating system does not report it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers requests with `answer` until `draining` is cancelled, in `tasks`.
    pub fn accept(self, limits: Limits, draining: &CancellationToken, tasks: &Tasks, answer: Front) {
        let answer = move |request: Request<Incoming>, connection: Connection| -> Answering {
            match form::refuse(&request) {
                Some(refused) => Box::pin(std::future::ready(refused)),
                None => answer(request, connection),
            }
        };
        let bound = Bound { most: limits.connections, name: "limits.connections" };
        tasks.run(listener::serve(self.0, None, bound, draining.clone(), tasks.clone(), limits, answer));
    }
}
