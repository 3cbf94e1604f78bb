//! The channel: a service calls a peer, in this process or in another one.
//!
//! Guarantees:
//! - A call in memory passes the same layers as a call from the network (INV-3).
//! - Dropping a call in memory cancels the peer's work, as a reset stream does over the network.
//!
//! See: decision 0003.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{self, Poll};
use std::time::Duration;

use http::header::USER_AGENT;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response};
use mesh_runtime::settings::{Key, Settings, parse};
use tonic::Status;
use tonic::body::Body;

use super::connections::Dial;
use super::deadline::Deadline;
use super::declared::{Calls, Declared};
use super::discover::Discover;
use super::endpoints::Endpoints;
use super::failure;
use super::retry::{Attempts, Remote};
use crate::auth::{Passports, passports};
use crate::call::error::exceeded;
use crate::call::{Call, Context, Handler, Local, Method, Methods, peer};
use crate::identity::Transport;
use crate::telemetry::{self, ClientCall, Metrics, Observer as _};

/// The services that this process can call. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<PeersInner>,
    /// The service that calls.
    caller: &'static str,
    /// Its name in a header.
    agent: HeaderValue,
    /// What the service declares to call. `None`: calls are not checked.
    declared: Option<Declared>,
}

/// How a process calls others.
pub struct Calling {
    /// The deadline of unary calls without one of their caller, their contract or the call being served.
    pub deadline: Duration,
    /// The TLS of connections.
    pub transport: Transport,
    /// The users for whom the process calls. `None` if it vouches for nobody, and takes nobody's word.
    pub passports: Option<Passports>,
    /// Where calls are counted.
    pub metrics: Metrics,
}

impl Calling {
    /// Reads `call_deadline`: 1 ms to 1 h, 10 s by default.
    pub fn take_deadline(settings: &mut Settings) -> Duration {
        let key = Key::new("call_deadline", "a time from 1ms to 1h, such as 10s");
        let within = parse::time(Duration::from_millis(1), Duration::from_secs(3600));
        settings.take(&key, Duration::from_secs(10), within)
    }
}

struct PeersInner {
    local: BTreeSet<&'static str>,
    /// The layers around the local services. Set after the services are built: they hold channels to each other.
    stack: OnceLock<Handler>,
    /// Finds services in other processes.
    discovery: Arc<dyn Discover>,
    /// One entry for each remote service with a channel. All of its channels share the entry.
    remotes: Mutex<BTreeMap<&'static str, Arc<Remote>>>,
    passes_on: bool,
    methods: Methods,
    calling: Calling,
}

impl Peers {
    /// The peers of `process`; `local` are the services in it.
    pub fn new(
        process: &'static str,
        local: BTreeSet<&'static str>,
        discovery: Arc<dyn Discover>,
        methods: Methods,
        calling: Calling,
    ) -> Self {
        Self::of_process(process, local, discovery, methods, calling, false)
    }

    /// The services of other processes, for a process that passes the calls of others on: it retries only what no
    /// handler has begun.
    pub fn passing_on(process: &'static str, discovery: Arc<dyn Discover>, methods: Methods, calling: Calling) -> Self {
        Self::of_process(process, BTreeSet::new(), discovery, methods, calling, true)
    }

    fn of_process(
        caller: &'static str,
        local: BTreeSet<&'static str>,
        discovery: Arc<dyn Discover>,
        methods: Methods,
        calling: Calling,
        passes_on: bool,
    ) -> Self {
        let (stack, remotes) = (OnceLock::new(), Mutex::default());
        let inner = PeersInner { local, stack, discovery, remotes, passes_on, methods, calling };
        Self { inner: Arc::new(inner), caller, agent: telemetry::agent(caller), declared: None }
    }

    /// The same peers, as `service` of this process calls them, which declares its calls.
    #[must_use]
    pub fn of(&self, service: &'static str, declared: Declared) -> Self {
        let (agent, declared) = (telemetry::agent(service), Some(declared));
        Self { inner: Arc::clone(&self.inner), caller: service, agent, declared }
    }

    /// Sets the layers around the services of this process. Later calls have no effect.
    pub fn ready(&self, layers: Handler) {
        let _ = self.inner.stack.set(layers);
    }

    /// A channel to a service.
    pub fn channel(&self, service: &'static str) -> Channel {
        let (caller, remote) = (self.caller, self.inner.follow(service));
        let declared = self.declared.as_ref().map(|declared| declared.of_peer(service));
        let agent = self.agent.clone();
        Channel { service, caller, agent, declared, remote, inner: Arc::downgrade(&self.inner) }
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
            let metrics = self.calling.metrics.peer(service);
            let (transport, tls) = (self.calling.transport.clone(), self.calling.metrics.tls.clone());
            let endpoints = Endpoints::unknown(
                Dial { service: service.into(), transport, metrics: tls, ..Dial::default() },
                metrics.clone(),
            );
            self.discovery.follow(service, endpoints.clone());
            Arc::new(Remote::new(service, endpoints, self.passes_on, metrics))
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
/// - INTERNAL, `UNDECLARED_CALL`: the service does not declare the call, in a build with debug assertions. Nothing was
///   sent.
///
/// A status of the peer is about the request to the peer. A service that returns it unchanged answers with another one
/// (docs/CONTRACTS.md): match on its code and answer with an error of the service, or pass it on with
/// [`pass_on`](peer::pass_on).
///
/// The channel has retried the call where its contract allows that. The caller should not retry at once.
#[derive(Clone)]
pub struct Channel {
    service: &'static str,
    /// The service that calls.
    caller: &'static str,
    /// Its name in a header.
    agent: HeaderValue,
    /// What the caller declares to call of the service. `None`: calls are not checked.
    declared: Option<Calls>,
    /// `None` for a service of this process.
    remote: Option<Arc<Remote>>,
    /// Weak: the services hold channels, and `PeersInner` holds the services.
    inner: Weak<PeersInner>,
}

/// A pending response. It is boxed once: a function that takes a future by value would hold it twice, and move it.
pub type Asking = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Asking;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = self.inner.upgrade().map(|inner| inner.methods.find(path));
        self.send(method.unwrap_or(Method::unknown()), request)
    }
}

impl Channel {
    /// Makes a call of `method`, which a request of HTTP does not name by its path.
    pub fn send(&self, method: &'static Method, mut request: Request<Body>) -> Asking {
        // A handler may forward its own request: the extensions belong to the call being served.
        request.extensions_mut().clear();
        let agent = match request.headers().get(USER_AGENT) {
            Some(given) => telemetry::appended(given, &self.agent),
            None => self.agent.clone(),
        };
        request.headers_mut().insert(USER_AGENT, agent);
        let service = self.service;
        let Some(inner) = self.inner.upgrade() else {
            return Box::pin(ready(Ok(failure::no_endpoints(service, None).into_http())));
        };
        let context = Context::current();
        let deadline = Deadline::of(&request, method, &context, inner.calling.deadline);
        // Outermost, so that a call without endpoints is observed too.
        let edge = inner.calling.metrics.edges.made(self.caller, service, method, self.remote.is_none());
        let call = ClientCall::begin(edge, &context, &mut request);
        if let Some(cause) = &context.cause {
            cause.write(request.headers_mut());
        }
        if let Some(asked) = &context.consistency {
            asked.write_request(request.headers_mut());
        }
        let path = request.uri().path_and_query().cloned();
        let asked = Asked { call, path: path.unwrap_or_else(|| PathAndQuery::from_static("/")), context };
        let deadline = match deadline {
            Ok(deadline) if deadline.is_expired() => return asked.refuse(exceeded()),
            Ok(deadline) => deadline,
            Err(status) => return asked.refuse(status),
        };
        if let Some(Err(status)) = self.declared.as_ref().map(|declared| declared.check(method)) {
            return asked.refuse(status);
        }
        if let Some(remote) = self.remote.clone() {
            let passports = inner.calling.passports.as_ref();
            if let Err(status) = passports::write(
                passports,
                &asked.context.caller,
                method.access,
                inner.passes_on,
                request.headers_mut(),
            ) {
                return asked.refuse(status);
            }
            // `Remote` writes the remaining time for each attempt.
            return Box::pin(async move {
                let attempts = Attempts::at(edge);
                let answering = pin!(remote.call(method, request, deadline, &attempts));
                asked.answer(deadline, answering, Some(&attempts)).await
            });
        }
        let Some(stack) = inner.stack.get() else { return asked.refuse(failure::no_endpoints(service, None)) };
        deadline.write(&mut request);
        let mut answering = stack(Call::in_memory(method, Local { caller: self.caller, called: service }, request));
        Box::pin(async move { asked.answer(deadline, answering.as_mut(), None).await })
    }
}

/// A call that waits for its response.
struct Asked {
    call: ClientCall,
    path: PathAndQuery,
    context: Context,
}

impl Asked {
    /// Waits for the response, within the span of the call and until its deadline.
    async fn answer<A>(
        mut self,
        deadline: Deadline,
        mut answering: Pin<&mut A>,
        attempts: Option<&Attempts>,
    ) -> Result<Response<Body>, Infallible>
    where
        A: Future<Output = Response<Body>> + ?Sized,
    {
        let answering = pin!(poll_fn(|cx| self.call.in_scope(|| answering.as_mut().poll(cx))));
        let response = deadline.enforce(answering).await;
        self.call.attempted(attempts.map_or(1, Attempts::made));
        Ok(self.respond(response))
    }

    fn refuse(self, status: Status) -> Asking {
        Box::pin(ready(Ok(self.respond(status.into_http()))))
    }

    fn respond(self, response: Response<Body>) -> Response<Body> {
        if let Some(asked) = &self.context.consistency {
            asked.note_answer(response.headers());
        }
        peer::mark(self.call.respond(response), self.path, &self.context).map(Body::new)
    }
}
