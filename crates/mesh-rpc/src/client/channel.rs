//! The channel: a service calls a peer, in this process or in another one.
//!
//! Guarantees:
//! - A call in memory passes the same layers as a call from the network (INV-3).
//! - Dropping a call in memory cancels the peer's work, as a reset stream does over the network.
//!
//! See: decision 0003.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use tonic::Status;
use tonic::body::Body;

use super::deadline::Deadline;
use super::discover::Discover;
use super::endpoints::Endpoints;
use super::failure;
use super::retry::Remote;
use crate::call::error::exceeded;
use crate::call::{Answering, Call, Context, Handler, Method, Methods, peer};
use crate::telemetry::{self, Metrics};

/// The `user-agent` of calls whose caller sets none, in gRPC's form.
const AGENT: &str = concat!("grpc-rust-mesh/", env!("CARGO_PKG_VERSION"));

/// The services that this process can call. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<PeersInner>);

struct PeersInner {
    local: BTreeSet<&'static str>,
    /// The layers around the local services. Set after the services are built: they hold channels to each other.
    stack: OnceLock<Handler>,
    /// Finds services in other processes.
    discovery: Arc<dyn Discover>,
    /// One entry for each remote service with a channel. All of its channels share the entry.
    remotes: Mutex<BTreeMap<&'static str, Arc<Remote>>>,
    methods: Methods,
    call_deadline: Duration,
    metrics: Metrics,
}

/// The target of a call.
enum Target {
    Local(Handler),
    Remote(Arc<Remote>),
}

impl Peers {
    /// `local` are the services of this process. `call_deadline` applies to unary calls without a deadline of their
    /// caller, their contract or the call being served.
    pub fn new(
        local: BTreeSet<&'static str>,
        discovery: Arc<dyn Discover>,
        methods: Methods,
        call_deadline: Duration,
        metrics: Metrics,
    ) -> Self {
        let (stack, remotes) = (OnceLock::new(), Mutex::default());
        Self(Arc::new(PeersInner { local, stack, discovery, remotes, methods, call_deadline, metrics }))
    }

    /// Sets the layers around the services of this process. Later calls have no effect.
    pub fn ready(&self, layers: Handler) {
        let _ = self.0.stack.set(layers);
    }

    /// A channel to a service.
    pub fn channel(&self, service: &'static str) -> Channel {
        Channel { service, remote: self.0.follow(service), inner: Arc::downgrade(&self.0) }
    }
}

impl PeersInner {
    /// Starts to follow a remote service before the first call; `None` for a service of this process.
    fn follow(&self, service: &'static str) -> Option<Arc<Remote>> {
        if self.local.contains(service) {
            return None;
        }
        let mut remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
        let remote = remotes.entry(service).or_insert_with(|| {
            let metrics = self.metrics.peer(service);
            let endpoints = Endpoints::unknown(metrics.clone());
            self.discovery.follow(service, endpoints.clone());
            Arc::new(Remote::new(service, endpoints, metrics))
        });
        Some(Arc::clone(remote))
    }
}

/// Calls one service of the mesh: `CatalogServiceClient::new(channel)`. Cheap to clone.
///
/// # Errors
///
/// The status of the peer, or one of these:
/// - UNAVAILABLE, `NO_ENDPOINTS`: discovery knows no instance of the service. Nothing was sent.
/// - UNAVAILABLE, `ENDPOINT_UNREACHABLE`: no instance can be reached. Nothing was sent.
/// - UNAVAILABLE, `CONNECTION_LOST`: the connection broke. The peer may have done the work.
/// - DEADLINE_EXCEEDED: the deadline passed. The peer may have done the work.
///
/// A status of the peer is about the request to the peer. A service that returns it unchanged answers with another one
/// (docs/CONTRACTS.md): match on its code and answer with an error of the service, or pass it on with
/// [`pass_on`](peer::pass_on).
///
/// The channel has retried the call where its contract allows that. The caller should not retry at once.
#[derive(Clone)]
pub struct Channel {
    service: &'static str,
    /// `None` for a service of this process.
    remote: Option<Arc<Remote>>,
    /// Weak: the services hold channels, and `PeersInner` holds the services.
    inner: Weak<PeersInner>,
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // A handler may forward its own request: the extensions belong to the call being served.
        request.extensions_mut().clear();
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(AGENT));
        let (service, remote) = (self.service, self.remote.clone());
        let Some(inner) = self.inner.upgrade() else {
            return Box::pin(std::future::ready(Ok(failure::no_endpoints(service, None).into_http())));
        };
        let method = inner.methods.find(request.uri().path());
        // Outermost, so that a call without endpoints is observed too.
        let metrics = inner.metrics.client.clone();
        let send = move |request: Request<Body>, context: Context| {
            let deadline = Deadline::of(&request, method, &context, inner.call_deadline);
            let target = match remote {
                Some(remote) => Some(Target::Remote(remote)),
                None => inner.stack.get().cloned().map(Target::Local),
            };
            call_target(service, target, deadline, method, request)
        };
        let (context, path) = (Context::current(), request.uri().path_and_query().cloned());
        let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let answering = telemetry::call(metrics, service, method, context.clone(), request, send);
        Box::pin(answering.map(move |response| Ok(peer::mark(response, path, &context).map(Body::new))))
    }
}

fn call_target(
    service: &str,
    target: Option<Target>,
    deadline: Result<Deadline, Status>,
    method: &'static Method,
    mut request: Request<Body>,
) -> impl Future<Output = Response<Body>> + use<> {
    let answering = match (target, deadline) {
        (_, Ok(deadline)) if deadline.is_expired() => Err(exceeded()),
        (Some(Target::Local(stack)), Ok(deadline)) => {
            deadline.write(&mut request);
            Ok((stack(Call::new(method, None, request)), deadline))
        }
        // `Remote` writes the remaining time for each attempt.
        (Some(Target::Remote(remote)), Ok(deadline)) => {
            let answering: Answering = Box::pin(async move { remote.call(method, request, deadline).await });
            Ok((answering, deadline))
        }
        (_, Err(status)) => Err(status),
        (None, _) => Err(failure::no_endpoints(service, None)),
    };
    async move {
        match answering {
            Ok((answering, deadline)) => deadline.enforce(answering).await,
            Err(status) => status.into_http(),
        }
    }
}
