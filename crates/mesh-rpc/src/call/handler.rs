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

use super::method::Method;

/// A gRPC service as its generated server is.
pub type GrpcService = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// The gRPC services of a process by their full name.
pub type GrpcServices = HashMap<&'static str, GrpcService>;

/// A call on its way through the layers.
pub struct Call {
    /// What its contract says; looked up once, where the call enters.
    pub method: &'static Method,
    /// Headers and body, as they came.
    pub request: Request<Body>,
}

impl Call {
    /// The same call with another body.
    pub fn map_body(self, map: impl FnOnce(Body) -> Body) -> Self {
        Self { method: self.method, request: self.request.map(map) }
    }
}

/// Answers gRPC calls. Cheap to clone.
pub type Handler = Arc<dyn Fn(Call) -> Answering + Send + Sync>;

/// An answer on its way. Dropping it stops the work for it.
pub type Answering = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Makes a handler of a function.
pub fn handler<F, A>(answer: F) -> Handler
where
    F: Fn(Call) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    Arc::new(move |call| Box::pin(answer(call)))
}

/// Adds a generated server under the name that its contract gives it.
pub fn add<S>(grpc: &mut GrpcServices, service: S)
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::call::Methods;

    pub(crate) const GET: &str = "/google.longrunning.Operations/GetOperation";
    pub(crate) const WATCH: &str = "/grpc.health.v1.Health/Watch";

    impl Call {
        /// A call of one of mesh's own methods.
        pub(crate) fn to(path: &str, body: Body) -> Self {
            let request = Request::builder().uri(path).body(body).unwrap();
            Self { method: Methods::of(&[]).find(path), request }
        }
    }
}
