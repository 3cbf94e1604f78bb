//! The parts of a call, with less and less around them, so that a benchmark can tell what each costs. They are those
//! that every process has, put together by the same lists.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::Map;
use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;

use crate::config::Limits;
use crate::contract::Methods;
use crate::handler::{Answering, Call, GrpcServices, Handler, add};
use crate::telemetry::Metrics;
use crate::{channel, serve};

/// A call with some of its layers, for a typed client to stand on. Cheap to clone.
#[derive(Clone)]
pub struct Layered {
    methods: Methods,
    /// The outermost of its layers.
    pub name: &'static str,
    handler: Handler,
}

/// What a process has around its services: first none of it, then one layer more each time. There is no network, but
/// requests come as if from there.
pub fn serving<S>(contracts: &'static [u8], service: S) -> Vec<Layered>
where
    S: tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let methods = Methods::of(&[contracts]);
    let mut services = GrpcServices::new();
    add(&mut services, service);
    let innermost = serve::dispatch(services);
    let layers = || serve::layers(Limits::default(), Metrics::new(), CancellationToken::new());
    let layered = (1..=layers().len()).map(|depth| {
        let around = |(_, handler), (name, layer): (_, serve::Layer)| (name, layer(handler));
        layers().into_iter().take(depth).fold(("", innermost.clone()), around)
    });
    let all = std::iter::once(("dispatch", innermost.clone())).chain(layered);
    all.map(|(name, handler)| Layered { methods: methods.clone(), name, handler: from_the_network(handler) }).collect()
}

fn from_the_network(next: Handler) -> Handler {
    let connection = serve::Connection { ending: CancellationToken::new() };
    Arc::new(move |mut call| {
        call.request.extensions_mut().insert(connection.clone());
        next(call)
    })
}

/// What a channel has around its connections to the process that serves at `server`: first nothing, then one layer more
/// each time. The last is a [`Channel`](crate::Channel) as services have it.
pub fn calling(contracts: &'static [u8], server: SocketAddr) -> Vec<Layered> {
    let methods = Methods::of(&[contracts]);
    let all = channel::layers::calling(server, &methods).into_iter();
    all.map(|(name, handler)| Layered { methods: methods.clone(), name, handler }).collect()
}

impl tower::Service<Request<Body>> for Layered {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<Answering, fn(Response<Body>) -> Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.methods.find(request.uri().path());
        (self.handler)(Call { method, request }).map(Ok)
    }
}
