//! The ports of a process: gRPC and the admin pages, on one listener or on two.
//!
//! They answer from the first moment, while the process opens and migrates its databases: a client that finds a silent
//! port would wait for its deadline.

use std::net::SocketAddr;

use http::{Request, header};
use hyper::body::Incoming;
use mesh_runtime::Tasks;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use super::admin::{self, Admin};
use super::listener::{self, Bound};
use super::settings::Limits;
use crate::call::{Answering, Call, Connection, Handler, Methods};

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

    /// Accepts connections until `draining` is cancelled, in `tasks`. Answers gRPC calls with `layers`, and other requests
    /// with `admin`. Returns the bound addresses, with the ports in place of port 0.
    ///
    /// # Errors
    ///
    /// The operating system does not report the address of a listener.
    pub fn accept(
        self,
        limits: Limits,
        draining: &CancellationToken,
        tasks: &Tasks,
        (layers, methods): (Handler, Methods),
        admin: Admin,
    ) -> anyhow::Result<(SocketAddr, Option<SocketAddr>)> {
        let address = self.services.local_addr()?;
        let admin_address = self.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let answer = answer(layers, methods, self.admin.is_none().then(|| admin.clone()));
        let bound = Bound { most: limits.connections, name: "limits.connections" };
        tasks.run(listener::serve(self.services, bound, draining.clone(), tasks.clone(), limits, answer));
        if let Some(listener) = self.admin {
            let pages = move |request: Request<Incoming>, _| std::future::ready(admin.answer(&request));
            let bound = Bound { most: limits.admin_connections(), name: "the limit of admin.listen" };
            tasks.run(listener::serve(listener, bound, draining.clone(), tasks.clone(), limits, pages));
        }
        Ok((address, admin_address))
    }
}

/// Answers gRPC with `layers`, and with `admin` the admin pages, too.
fn answer(
    layers: Handler,
    methods: Methods,
    admin: Option<Admin>,
) -> impl Fn(Request<Incoming>, Connection) -> Answering + Clone {
    move |request, connection| {
        let response = match (is_grpc(&request), &admin) {
            (false, None) => admin::not_found(),
            (false, Some(admin)) => admin.answer(&request),
            (true, _) if request.version() != http::Version::HTTP_2 => admin::needs_http_2(),
            (true, _) => {
                let method = methods.find(request.uri().path());
                return layers(Call::new(method, Some(connection), request.map(Body::new)));
            }
        };
        Box::pin(std::future::ready(response))
    }
}

/// `application/grpc`, with or without a format suffix. `application/grpc-web` is another protocol.
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let rest = content_type.and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}
