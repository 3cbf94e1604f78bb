//! Handlers: functions that answer a gRPC call.
//!
//! A service, a layer around it and a peer in another process are all handlers. A handler is always ready. Dropping its
//! future cancels the work.
//!
//! See: decision 0002.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;

use super::method::Method;

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
pub type GrpcService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The gRPC services of a process by their full names.
pub type GrpcServices = HashMap<&'static str, GrpcService>;

/// A call on its way through the layers.
pub struct Call {
    /// The method. It is looked up once, where the call enters.
    pub method: &'static Method,
    /// Headers and body of the request.
    pub request: Request<Body>,
}

impl Call {
    /// Replaces the request body.
    pub fn map_body(self, map: impl FnOnce(Body) -> Body) -> Self {
        Self { method: self.method, request: self.request.map(map) }
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

    impl Call {
        /// A call to a method of mesh's own contracts.
        pub(crate) fn to(path: &str, body: Body) -> Self {
            let request = Request::builder().uri(path).body(body).unwrap();
            Self { method: Methods::of(&[]).find(path), request }
        }
    }
}
