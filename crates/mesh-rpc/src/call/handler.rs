//! Handlers: functions that answer a gRPC call.
//!
//! A service, a layer around it and a peer in another process are all handlers. A handler is always ready. Dropping its
//! future cancels the work.
//!
//! See: decision 0002.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::server::NamedService;

use super::context::Context;
use super::method::Method;
use super::outside;

/// A generated gRPC server, such as `CatalogServiceServer::new(…)`.
pub trait GrpcServer:
    tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + NamedService
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> GrpcServer for S where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A [`GrpcServer`] of any type.
#[derive(Clone)]
pub struct GrpcService(Arc<dyn Fn(Request<Body>) -> Answering + Send + Sync>);

impl GrpcService {
    /// A service of any type.
    pub fn new<S>(service: S) -> Self
    where
        S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Self(Arc::new(move |request| {
            let answering = service.clone().call(request);
            Box::pin(async move {
                let Ok(response) = answering.await;
                response
            })
        }))
    }

    /// Answers a request.
    pub fn answer(&self, request: Request<Body>) -> Answering {
        (self.0)(request)
    }
}

/// The gRPC services of a process by their full names.
pub type GrpcServices = HashMap<&'static str, GrpcService>;

/// The services of a call in memory.
#[derive(Clone, Copy, Debug)]
pub struct Local {
    /// The one that calls.
    pub caller: &'static str,
    /// The one that is called.
    pub called: &'static str,
}

/// A call on its way through the layers. It is made once, where the call enters, and passed down.
pub struct Call<B = Body> {
    /// The method. It is looked up once.
    pub method: &'static Method,
    /// The connection that the call came over. `None` in memory.
    pub connection: Option<Connection>,
    /// The services of a call in memory.
    pub local: Option<Local>,
    /// Whether the caller is outside of the mesh.
    pub is_outside: bool,
    /// When the call arrived.
    pub arrived: Instant,
    /// What is known of the call. The deadline is set on the way.
    pub context: Context,
    /// The span of the caller, if the request names one.
    pub parent: Option<NonZeroU64>,
    /// Headers and body of the request.
    pub request: Request<B>,
}

impl<B> Call<B> {
    /// A call that arrives now.
    pub fn new(method: &'static Method, connection: Option<Connection>, request: Request<B>) -> Self {
        let (context, parent) = Context::of_call(method, request.headers());
        let (local, is_outside, arrived) = (None, false, Instant::now());
        Self { method, connection, local, is_outside, arrived, context, parent, request }
    }

    /// A call in memory that a service of this process makes now.
    pub fn in_memory(method: &'static Method, local: Local, request: Request<B>) -> Self {
        Self { local: Some(local), ..Self::new(method, None, request) }
    }

    /// The service that made the call, if it is known to be one.
    pub fn service(&self) -> Option<&str> {
        self.connection.as_ref().map_or(self.local.map(|local| local.caller), Connection::service)
    }

    /// The service that is called, if the call is in memory. Over the network, the name of the contract says it, or a
    /// request.
    pub fn called(&self) -> Option<&'static str> {
        self.local.map(|local| local.called)
    }

    /// The call of a caller outside of the mesh, without what that must not say: its cause, and identities.
    #[must_use]
    pub fn from_outside(mut self) -> Self {
        self.is_outside = true;
        self.context.cause = None;
        outside::strip(self.request.headers_mut());
        self
    }

    /// Replaces the request body.
    pub fn map_body<C>(self, map: impl FnOnce(B) -> C) -> Call<C> {
        let Self { method, connection, local, is_outside, arrived, context, parent, request } = self;
        Call { method, connection, local, is_outside, arrived, context, parent, request: request.map(map) }
    }
}

/// The connection of a call from the network. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Connection(Arc<Ends>);

#[derive(Debug, Default)]
struct Ends {
    /// Cancelled when the streams of the connection have to end.
    ending: CancellationToken,
    /// The address of the client.
    client: Option<SocketAddr>,
    /// The service of the client, by its certificate.
    service: Option<String>,
    /// Cancels a token when no call of the connection is left, and no other protocol that it was upgraded to.
    _unused: Option<DropGuard>,
}

impl Connection {
    /// A connection from `client`, whose streams have to end when `ending` is cancelled. Cancels `unused` when the last
    /// clone of it is dropped.
    pub fn new(ending: CancellationToken, client: Option<SocketAddr>, unused: CancellationToken) -> Self {
        Self::of_service(ending, client, None, unused)
    }

    /// As [`new`](Self::new), from a client whose certificate is that of `service`, if it has one.
    pub fn of_service(
        ending: CancellationToken,
        client: Option<SocketAddr>,
        service: Option<String>,
        unused: CancellationToken,
    ) -> Self {
        Self(Arc::new(Ends { ending, client, service, _unused: Some(unused.drop_guard()) }))
    }

    /// The service whose certificate the client has: its name, or its whole SPIFFE ID if it is elsewhere in the trust
    /// domain.
    pub fn service(&self) -> Option<&str> {
        self.0.service.as_deref()
    }

    /// The address of the client, if the operating system knows it.
    pub fn client(&self) -> Option<SocketAddr> {
        self.0.client
    }

    /// Waits until the streams of the connection have to end.
    pub async fn ended(&self) {
        self.0.ending.cancelled().await;
    }
}

/// Answers gRPC calls. Cheap to clone.
pub type Handler = Arc<dyn Fn(Call) -> Answering + Send + Sync>;

/// A pending response. Dropping it cancels the work.
pub type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Creates a handler from a function.
pub fn handler<F, A>(answer: F) -> Handler
where
    F: Fn(Call) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |call| Box::pin(answer(call)))
}

/// Adds a generated server under the full name of its contract.
pub fn add<S: GrpcServer>(grpc: &mut GrpcServices, service: S) {
    grpc.insert(S::NAME, GrpcService::new(service));
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::call::method::Methods;

    pub(crate) const GET: &str = "/google.longrunning.Operations/GetOperation";
    pub(crate) const WATCH: &str = "/grpc.health.v1.Health/Watch";
    pub(crate) const CHECK: &str = "/grpc.health.v1.Health/Check";

    impl Call {
        /// A call to a method of mesh's own contracts.
        pub(crate) fn to(path: &str, body: Body) -> Self {
            let request = Request::builder().uri(path).body(body).unwrap();
            Self::new(Methods::of(&[]).find(path), None, request)
        }
    }
}
