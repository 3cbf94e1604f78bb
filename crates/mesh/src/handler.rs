//! What answers a gRPC call: a service, the layers around it, or a peer in another process.
//!
//! A handler is a function. It is always ready, and whoever holds one may call it; dropping its answer stops the work.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use tonic::body::Body;
use tonic::server::NamedService;
use tower::util::BoxCloneSyncService;

/// A gRPC service as its generated server is.
pub(crate) type GrpcService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The gRPC services of a process by their full name.
pub(crate) type GrpcServices = HashMap<&'static str, GrpcService>;

/// Answers gRPC calls. Cheap to clone.
pub(crate) type Handler = Arc<dyn Fn(Request<Body>) -> Answering + Send + Sync>;

/// An answer on its way. Dropping it stops the work for it.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Makes a handler of a function.
pub(crate) fn handler<F, A>(answer: F) -> Handler
where
    F: Fn(Request<Body>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |request| Box::pin(answer(request)))
}

/// Adds a generated server under the name that its contract gives it.
pub(crate) fn add<S>(grpc: &mut GrpcServices, service: S)
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    grpc.insert(S::NAME, GrpcService::new(service));
}
