//! The ports of a process: gRPC, the admin pages and other HTTP, on one listener or on two.
//!
//! They answer from the first moment, while the process opens and migrates its databases: a client that finds a silent
//! port would wait for its deadline.

use std::net::SocketAddr;
use std::sync::Arc;

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

/// Answers HTTP requests that are neither gRPC nor for an admin page.
pub type Front = Arc<dyn Fn(Request<Incoming>, Connection) -> Answering + Send + Sync>;

/// What a process answers with.
pub struct Answers {
    /// gRPC calls.
    pub layers: Handler,
    /// The methods that the calls are of.
    pub methods: Methods,
    /// The admin pages.
    pub admin: Admin,
    /// Other requests. `None`: they are not found.
    pub front: Option<Front>,
}

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

    /// The bound address of the services, with the port in place of port 0.
    ///
    /// # Errors
    ///
    /// The operating system does not report the address of the listener.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.services.local_addr()
    }

    /// Accepts connections until `draining` is cancelled, in `tasks`. Returns the bound addresses.
    ///
    /// # Errors
    ///
    /// The operating system does not report the address of a listener.
    pub fn accept(
        self,
        limits: Limits,
        draining: &CancellationToken,
        tasks: &Tasks,
        answers: Answers,
    ) -> anyhow::Result<(SocketAddr, Option<SocketAddr>)> {
        let address = self.services.local_addr()?;
        let admin_address = self.admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let admin = answers.admin.clone();
        let answer = answer(answers, self.admin.is_none());
        let bound = Bound { most: limits.connections, name: "limits.connections" };
        tasks.run(listener::serve(self.services, bound, draining.clone(), tasks.clone(), limits, answer));
        if let Some(listener) = self.admin {
            let pages = move |request: Request<Incoming>, _| {
                std::future::ready(admin.answer(&request).unwrap_or_else(admin::not_found))
            };
            let bound = Bound { most: limits.admin_connections(), name: "the limit of admin.listen" };
            tasks.run(listener::serve(listener, bound, draining.clone(), tasks.clone(), limits, pages));
        }
        Ok((address, admin_address))
    }
}

/// Answers gRPC, with `pages` the admin pages, and what else the front answers.
fn answer(answers: Answers, pages: bool) -> impl Fn(Request<Incoming>, Connection) -> Answering + Clone {
    let answers = Arc::new(answers);
    move |request, connection| {
        let response = if is_grpc(&request) {
            if request.version() == http::Version::HTTP_2 {
                let method = answers.methods.find(request.uri().path());
                return (answers.layers)(Call::new(method, Some(connection), request.map(Body::new)));
            }
            admin::needs_http_2()
        } else {
            let page = pages.then(|| answers.admin.answer(&request)).flatten();
            match (page, &answers.front) {
                (Some(page), _) => page,
                (None, Some(front)) => return front(request, connection),
                (None, None) => admin::not_found(),
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
