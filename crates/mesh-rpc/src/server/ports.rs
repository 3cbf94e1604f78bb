//! The ports of a process: gRPC and the admin pages, on one listener or on two.
//!
//! They answer from the first moment. While the process opens and migrates its databases, calls are UNAVAILABLE,
//! `STARTING`, and `/readyz` is 503: a client that finds a silent port would wait for its deadline.

use std::future::Ready;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, Response, header};
use hyper::body::Incoming;
use mesh_runtime::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::admin::{self, Admin};
use super::listener;
use super::settings::Limits;
use crate::call::error::unavailable;
use crate::call::{Answering, Call, Handler, Methods};

/// The invited delay of a retry while the process starts.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// The listeners of a process.
pub struct Ports {
    services: TcpListener,
    /// The listener for the admin pages, if they have a port of their own.
    admin: Option<TcpListener>,
}

impl Ports {
    /// Binds the listeners. `how` names the setting of `listen`, for the error.
    ///
    /// # Errors
    ///
    /// An address is in use, or does not belong to this machine. The message says what to do.
    pub async fn bind(listen: SocketAddr, how: &str, admin: Option<SocketAddr>) -> anyhow::Result<Self> {
        let services = listener::bind(listen, how).await?;
        let admin = match admin {
            Some(address) => Some(listener::bind(address, "admin.listen or MESH__ADMIN__LISTEN").await?),
            None => None,
        };
        Ok(Self { services, admin })
    }

    /// Accepts connections until `draining` is cancelled, in `tasks`. Requests are refused as `STARTING` until
    /// [`Starting::serve`].
    ///
    /// # Errors
    ///
    /// The operating system does not report the address of a listener.
    pub fn accept(self, limits: Limits, draining: &CancellationToken, tasks: &Tasks) -> anyhow::Result<Starting> {
        let served = Arc::new(OnceLock::new());
        let address = self.services.local_addr()?;
        let admin_address = self.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let answer = answer(Arc::clone(&served), self.admin.is_none());
        tasks.run(listener::serve(self.services, draining.clone(), tasks.clone(), limits, answer));
        if let Some(listener) = self.admin {
            let pages = pages(Arc::clone(&served));
            tasks.run(listener::serve(listener, draining.clone(), tasks.clone(), limits, pages));
        }
        Ok(Starting { address, admin_address, served })
    }
}

/// Ports that accept connections before there is anything to serve.
pub struct Starting {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    served: Arc<OnceLock<Served>>,
}

struct Served {
    layers: Handler,
    methods: Methods,
    admin: Admin,
}

impl Starting {
    /// Answers gRPC calls with `layers`, and other requests with `admin`, also on open connections. Returns the bound
    /// addresses, with the ports in place of port 0.
    pub fn serve(self, layers: Handler, methods: Methods, admin: Admin) -> (SocketAddr, Option<SocketAddr>) {
        // It is empty: this takes the only value that can fill it.
        let _ = self.served.set(Served { layers, methods, admin });
        (self.address, self.admin_address)
    }
}

/// Answers gRPC, and with `here` the admin pages, too.
fn answer(served: Arc<OnceLock<Served>>, here: bool) -> impl Fn(Request<Incoming>) -> Answering + Clone {
    move |request| {
        let served = served.get();
        let response = match (is_grpc(&request), served) {
            (false, _) if !here => admin::not_found(),
            (false, Some(served)) => served.admin.answer(&request),
            (false, None) => admin::starting(&request),
            (true, _) if request.version() != http::Version::HTTP_2 => admin::needs_http_2(),
            (true, Some(served)) => {
                let method = served.methods.find(request.uri().path());
                return (served.layers)(Call { method, request: request.map(Body::new) });
            }
            (true, None) => {
                let message = "the process starts: it opens and migrates its databases; retry later";
                unavailable("STARTING", message, RETRY_DELAY).into_http()
            }
        };
        Box::pin(std::future::ready(response))
    }
}

/// Answers the admin pages on a port of their own.
fn pages(served: Arc<OnceLock<Served>>) -> impl Fn(Request<Incoming>) -> Ready<Response<Body>> + Clone {
    move |request| {
        let started = served.get();
        std::future::ready(started.map_or_else(|| admin::starting(&request), |served| served.admin.answer(&request)))
    }
}

/// `application/grpc`, with or without a format suffix. `application/grpc-web` is another protocol.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let rest = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
