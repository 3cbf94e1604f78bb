//! How a service calls a peer: one cheap-to-clone channel under every typed client, wherever the peer runs.
//!
//! What the caller gives a call is the same either way: a place in the trace it is part of, and a [`deadline`]. Then a
//! peer that lives in this process is called through the same layers as by somebody from the network, without a socket.
//! Nothing is spawned for that, so a caller that goes away stops its peer's work by dropping it, exactly as a reset
//! stream does over the network.
//!
//! A peer that does not is called over the network. From the outside in: [`retry`] tries again what may be tried again,
//! [`endpoints`] picks one of the peer's instances, [`endpoint`] counts what that has to do and how it fares, with
//! [`ejection`] for those that fail, and [`connections`] carries the bytes.

mod attempt;
mod connections;
mod deadline;
mod ejection;
mod endpoint;
mod endpoints;
mod failure;
#[cfg(feature = "testing")]
pub(crate) mod layers;
mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;

pub(crate) use endpoints::Endpoints;

use crate::context::Context;
use crate::contract::Methods;
use crate::error::exceeded;
use crate::handler::{Answering, Call, Handler};
use crate::registry::Registry;
use crate::telemetry::{self, Metrics};
use deadline::Deadline;
use retry::Remote;

/// The services that can be called from this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

struct Shared {
    local: BTreeSet<&'static str>,
    /// Set once everything is built: services hold channels to each other before any of them is there.
    stack: OnceLock<Handler>,
    /// Where to learn of the services that do not run here.
    registry: Registry,
    /// Those that there are channels to; all channels to a service share one.
    remotes: RwLock<BTreeMap<&'static str, Arc<Remote>>>,
    methods: Methods,
    call_deadline: Duration,
    metrics: Metrics,
}

/// Who answers for a service.
enum Peer {
    Local(Handler),
    Remote(Arc<Remote>),
}

impl Peers {
    pub(crate) fn new(
        local: BTreeSet<&'static str>,
        registry: Registry,
        methods: Methods,
        call_deadline: Duration,
        metrics: Metrics,
    ) -> Self {
        let (stack, remotes) = (OnceLock::new(), RwLock::default());
        Self(Arc::new(Shared { local, stack, registry, remotes, methods, call_deadline, metrics }))
    }

    /// From now on calls are answered.
    pub(crate) fn ready(&self, stack: Handler) {
        // A second stack would be a second `start` of the same peers, and there is none.
        let _ = self.0.stack.set(stack);
    }

    pub(crate) fn channel(&self, service: &'static str) -> Channel {
        self.0.find(service);
        Channel { service, shared: Arc::downgrade(&self.0) }
    }
}

impl Shared {
    /// Begins to look for a service that does not run here, before the first call does.
    fn find(&self, service: &'static str) {
        if !self.local.contains(service) {
            let mut remotes = self.remotes.write().unwrap_or_else(PoisonError::into_inner);
            remotes.entry(service).or_insert_with(|| {
                let metrics = self.metrics.peer(service);
                let endpoints = Endpoints::unknown(metrics.clone());
                self.registry.follow(service, endpoints.clone());
                Arc::new(Remote::new(service, endpoints, metrics))
            });
        }
    }

    fn peer(&self, service: &'static str) -> Option<Peer> {
        if self.local.contains(service) {
            self.stack.get().cloned().map(Peer::Local)
        } else {
            let remotes = self.remotes.read().unwrap_or_else(PoisonError::into_inner);
            remotes.get(service).cloned().map(Peer::Remote)
        }
    }
}

/// Calls one service of the mesh: `CatalogServiceClient::new(channel)`. Cheap to clone.
///
/// # Errors
///
/// What the peer answers, and of its own: UNAVAILABLE with reason `NO_ENDPOINTS` if the service is nowhere to be found or
/// `ENDPOINT_UNREACHABLE` if its instances cannot be reached (nothing was sent), or `CONNECTION_LOST` if one broke off,
/// and DEADLINE_EXCEEDED when the call's time is over (whether the peer did its work is not known). What may be retried
/// has been: the caller should not.
#[derive(Clone)]
pub struct Channel {
    service: &'static str,
    /// Weak, for what is shared holds the services, and they hold channels.
    shared: Weak<Shared>,
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // Marks of the call that is being served, if a handler passes its request on.
        request.extensions_mut().clear();
        let service = self.service;
        let Some(shared) = self.shared.upgrade() else {
            return Box::pin(std::future::ready(Ok(failure::no_endpoints(service).into_http())));
        };
        let method = shared.methods.find(request.uri().path());
        // Outermost: a call that finds nobody is one, too.
        let metrics = shared.metrics.client.clone();
        let send = move |request: Request<Body>, context: Context| {
            let deadline = Deadline::of(&request, method, &context, shared.call_deadline);
            answer(service, shared.peer(service), deadline, Call { method, request })
        };
        let answering = telemetry::call(metrics, service, method, Context::current(), request, send);
        Box::pin(answering.map(Ok))
    }
}

async fn answer(
    service: &str,
    peer: Option<Peer>,
    deadline: Result<Deadline, Status>,
    mut call: Call,
) -> Response<Body> {
    let (peer, deadline) = match (peer, deadline) {
        (_, Ok(deadline)) if deadline.is_over() => return exceeded().into_http(),
        (Some(peer), Ok(deadline)) => (peer, deadline),
        (_, Err(status)) => return status.into_http(),
        (None, _) => return failure::no_endpoints(service).into_http(),
    };
    // Each boxed for itself: what a remote peer needs is large, and a call to a local one should not have to carry it.
    let answering: Answering = match peer {
        Peer::Local(stack) => {
            deadline.write(&mut call.request);
            stack(call)
        }
        // It says at each attempt what is left then.
        Peer::Remote(remote) => Box::pin(async move { remote.call(call, deadline).await }),
    };
    deadline.enforce(answering).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::context::Trace;
    use crate::handler::GrpcService;
    use crate::serve::stack;
    use std::collections::HashMap;
    use tokio::time::Instant;
    use tonic::Code;
    use tower::Service as _;

    /// A mesh in which `echo` answers with the headers it got, after a while; `panic` does what it says.
    fn peers() -> Peers {
        let echo = tower::service_fn(|request: Request<Body>| async move {
            if request.uri().path().ends_with("/Panic") {
                panic!("on purpose");
            }
            let wait = request.headers().get("wait").map_or(0, |wait| wait.to_str().unwrap().parse().unwrap());
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let mut response = Status::ok("").into_http::<Body>();
            response.headers_mut().extend(request.headers().clone());
            Ok::<_, Infallible>(response)
        });
        let peers = Peers::new(
            BTreeSet::from(["echo"]),
            Registry::Local,
            Methods::of(&[]),
            Duration::from_secs(10),
            Metrics::new(),
        );
        let services = HashMap::from([("echo.v1.Echo", GrpcService::new(echo))]);
        peers.ready(stack(services, Limits::default(), Metrics::new(), tokio_util::sync::CancellationToken::new()));
        peers
    }

    async fn call(service: &'static str, method: &str, headers: &[(&'static str, &'static str)]) -> Response<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = format!("http://mesh/echo.v1.Echo/{method}").parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let peers = peers();
        peers.channel(service).call(request).await.unwrap()
    }

    fn code(response: &Response<Body>) -> Code {
        Status::from_header_map(response.headers()).unwrap().code()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_deadline_gets_the_default() {
        let start = Instant::now();
        let response = call("echo", "Wait", &[("wait", "3600000")]).await;
        assert_eq!(code(&response), Code::DeadlineExceeded);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_deadline_travels_on_less_a_margin() {
        let deadline = Some(Instant::now() + Duration::from_secs(2));
        let context = Context { deadline, ..Context::default() };
        let response = context.clone().scope(call("echo", "Now", &[("grpc-timeout", "1H")])).await;
        assert_eq!(response.headers()["grpc-timeout"], "1995000u");
        let response = context.scope(call("echo", "Now", &[("grpc-timeout", "500m")])).await;
        assert_eq!(response.headers()["grpc-timeout"], "500000u");
    }

    #[tokio::test]
    async fn the_trace_travels_on() {
        let context = Context { trace_state: Some("one=1".parse().unwrap()), ..Context::default() };
        let response = context.clone().scope(call("echo", "Now", &[])).await;
        let sent = Trace::from_headers(response.headers()).unwrap();
        assert_eq!(sent.trace_id, context.trace.trace_id);
        assert_ne!(sent.span_id, context.trace.span_id, "the call has a span of its own");
        assert_eq!(response.headers()["tracestate"], "one=1");
    }

    #[tokio::test]
    async fn a_service_that_is_nowhere_fails_fast_by_name() {
        let response = call("billing", "Now", &[]).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("billing"), "{status}");
    }

    #[tokio::test]
    async fn a_panic_of_the_peer_is_an_answer() {
        assert_eq!(code(&call("echo", "Panic", &[]).await), Code::Internal);
    }
}
