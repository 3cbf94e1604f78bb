//! The channel: how a service calls a peer.
//!
//! A call gets a place in its caller's trace and a deadline, wherever the peer runs. A peer in this process is called
//! through the same layers as a call from the network, without a socket. Nothing is spawned for that: a caller that drops
//! its call stops the peer's work, as a reset stream does over the network.

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

use super::deadline::Deadline;
use super::discover::Discover;
use super::endpoints::Endpoints;
use super::failure;
use super::retry::Remote;
use crate::call::error::exceeded;
use crate::call::{Answering, Call, Context, Handler, Methods};
use crate::telemetry::{self, Metrics};

/// The services that can be called from this process. Cheap to clone.
#[derive(Clone)]
pub struct Peers(Arc<Shared>);

struct Shared {
    local: BTreeSet<&'static str>,
    /// Set once everything is built: services hold channels to each other before any of them is there.
    stack: OnceLock<Handler>,
    /// Knows the services that do not run here.
    discovery: Arc<dyn Discover>,
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
    /// `local` are the services of this process; `call_deadline` is for calls whose caller and contract set none.
    pub fn new(
        local: BTreeSet<&'static str>,
        discovery: Arc<dyn Discover>,
        methods: Methods,
        call_deadline: Duration,
        metrics: Metrics,
    ) -> Self {
        let (stack, remotes) = (OnceLock::new(), RwLock::default());
        Self(Arc::new(Shared { local, stack, discovery, remotes, methods, call_deadline, metrics }))
    }

    /// Hands in what answers calls to the services of this process, with the layers around it. Once.
    pub fn ready(&self, layers: Handler) {
        let _ = self.0.stack.set(layers);
    }

    /// A channel to a service, wherever it runs.
    pub fn channel(&self, service: &'static str) -> Channel {
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
                self.discovery.follow(service, endpoints.clone());
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
