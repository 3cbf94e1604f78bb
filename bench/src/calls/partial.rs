//! Calls with fewer and fewer layers, to measure the cost of each. The layers are those of every process, from the same
//! lists.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Map;
use http::uri::{Authority, Scheme, Uri};
use http::{Request, Response};
use mesh_proto::google::longrunning::operations_server::OperationsServer;
use mesh_proto::mesh::inspect::v1::GetProcessResponse;
use mesh_rpc::auth::Gate;
use mesh_rpc::call::{self, Call, Connection, GrpcServer, GrpcServices, Handler, Methods, add, handler};
use mesh_rpc::client::connections::{Connections, Dial, Unanswered};
use mesh_rpc::client::deadline::Deadline;
use mesh_rpc::client::failure::no_endpoints;
use mesh_rpc::client::retry::{Attempts, Remote};
use mesh_rpc::client::{Calling, Endpoints, Instance, Peers, attempt};
use mesh_rpc::discovery::{Address, Discovery, Registry};
use mesh_rpc::identity::Transport;
use mesh_rpc::inspect::Inspect;
use mesh_rpc::server::{Health, KnownPlaces, Limits, layers};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::Service as _;

use super::peer::Answering;

/// A call with some of its layers, as the transport of a typed client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Layered {
    methods: Methods,
    /// The name of the outermost layer.
    pub(super) name: &'static str,
    handler: Handler,
}

/// A server's services without layers, and within all of them. There is no network, but calls look as if they came over
/// one.
pub(super) fn serving<S: GrpcServer>(contracts: &'static [u8], service: S) -> Vec<Layered> {
    let methods = Methods::of(&[contracts]);
    let mut services = GrpcServices::new();
    add(&mut services, service);
    let (bare, whole) = (layers::dispatch(services.clone(), None), stack(services, Metrics::new()));
    let all = [("dispatch", bare), ("all of mesh", whole)].into_iter();
    all.map(|(name, handler)| Layered { methods: methods.clone(), name, handler: from_the_network(handler) }).collect()
}

fn from_the_network(next: Handler) -> Handler {
    let connection = Connection::default();
    Arc::new(move |mut call| {
        call.connection = Some(connection.clone());
        next(call)
    })
}

/// The layers of a channel around its connections to `server`: first none, then one more each time. The last is a
/// channel as services have it.
pub(super) fn calling(contracts: &'static [u8], server: SocketAddr) -> Vec<Layered> {
    let methods = Methods::of(&[contracts]);
    let all = around_connections(server, &methods).into_iter();
    all.map(|(name, handler)| Layered { methods: methods.clone(), name, handler }).collect()
}

/// A channel as services have it, over connections of this transport.
pub(crate) fn whole_channel(server: SocketAddr, transport: Transport) -> Layered {
    let methods = Methods::of(&[]);
    Layered { methods: methods.clone(), name: "whole channel", handler: channel(server, methods, transport) }
}

impl tower::Service<Request<Body>> for Layered {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<call::Answering, fn(Response<Body>) -> Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = self.methods.find(request.uri().path());
        (self.handler)(Call::new(method, None, request)).map(Ok)
    }
}

const SERVICE: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(10);

/// Innermost first. Each entry has connections of its own.
fn around_connections(server: SocketAddr, methods: &Methods) -> Vec<(&'static str, Handler)> {
    // An IP address with a port is always a valid authority.
    let Ok(authority) = server.to_string().parse::<Authority>() else { return Vec::new() };
    vec![
        ("connection", connection(authority.clone())),
        ("endpoint", endpoint(authority.clone())),
        ("retry", retry(authority)),
        ("deadline and telemetry", channel(server, methods.clone(), Transport::default())),
    ]
}

fn connection(authority: Authority) -> Handler {
    let connections = Arc::new(Connections::to(authority.clone(), Dial::default()));
    handler(move |Call { mut request, .. }| {
        let connections = Arc::clone(&connections);
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority.clone()));
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        async move { connections.send(&mut request).await.map_or_else(failed, |response| response.map(Body::new)) }
    })
}

fn endpoint(authority: Authority) -> Handler {
    let endpoints = endpoints(authority, &Metrics::new());
    handler(move |Call { method, mut request, .. }| {
        let endpoints = endpoints.clone();
        async move {
            match endpoints.pick(&[]).await {
                Some(endpoint) => {
                    let answered = attempt::call(endpoint, method, &mut request, Deadline::default()).await;
                    answered.map_or_else(failed, |response| response.map(Body::new))
                }
                None => no_endpoints(SERVICE, None).into_http(),
            }
        }
    })
}

fn retry(authority: Authority) -> Handler {
    let metrics = Metrics::new();
    let remote = Arc::new(Remote::new(SERVICE, endpoints(authority, &metrics), false, metrics.peer(SERVICE)));
    handler(move |Call { method, request, .. }| {
        let (remote, edge) = (Arc::clone(&remote), metrics.edges.made("test", SERVICE, method, false));
        async move { remote.call(method, request, Deadline::default(), &Attempts::at(edge)).await }
    })
}

/// The whole channel, as services have it.
fn channel(server: SocketAddr, methods: Methods, transport: Transport) -> Handler {
    let registry = Registry::Static(BTreeMap::from([(SERVICE.to_owned(), vec![Address::Ip(server)])]));
    // Creating static discovery never fails.
    let Ok(discovery) = Discovery::new(&registry, &Tasks::default()) else { unreachable!() };
    let peers = Peers::new(
        "test",
        BTreeSet::new(),
        Arc::new(discovery),
        methods,
        Calling { deadline: DEADLINE, transport, passports: None, metrics: Metrics::new() },
    );
    let channel = peers.channel(SERVICE);
    handler(move |Call { request, .. }| {
        // A channel does not own its peers, so the handler does.
        let _alive = &peers;
        let answering = channel.clone().call(request);
        async move {
            let Ok(response) = answering.await;
            response
        }
    })
}

/// A channel to the service in the same process, as services have it, with these metrics at both sides.
pub(super) fn in_memory(metrics: Metrics) -> Layered {
    let methods = Methods::of(&[]);
    // Creating local discovery never fails.
    let Ok(discovery) = Discovery::new(&Registry::Local, &Tasks::default()) else { unreachable!() };
    let calling =
        Calling { deadline: DEADLINE, transport: Transport::default(), passports: None, metrics: metrics.clone() };
    let peers = Peers::new("test", [SERVICE].into(), Arc::new(discovery), methods.clone(), calling);
    let mut services = GrpcServices::new();
    add(&mut services, OperationsServer::new(Answering::default()));
    peers.ready(stack(services, metrics));
    let channel = peers.channel(SERVICE);
    let handler = handler(move |Call { request, .. }| {
        // A channel does not own its peers, so the handler does.
        let _alive = &peers;
        let answering = channel.clone().call(request);
        async move {
            let Ok(response) = answering.await;
            response
        }
    });
    Layered { methods, name: "in memory", handler }
}

/// The inspect API of a process with these metrics.
pub(super) fn inspected(metrics: &Metrics) -> Layered {
    let (mut services, health) = (GrpcServices::new(), Health::starting([], []));
    Inspect::new(GetProcessResponse::default(), metrics.clone(), health).serve(&mut services);
    let handler = from_the_network(stack(services, Metrics::new()));
    Layered { methods: Methods::of(&[]), name: "inspect", handler }
}

fn stack(services: GrpcServices, metrics: Metrics) -> Handler {
    let (draining, places) = (CancellationToken::new(), KnownPlaces::default());
    layers::stack(layers::dispatch(services, None), Limits::default(), metrics, draining, places, Gate::open())
}

fn endpoints(authority: Authority, metrics: &Metrics) -> Endpoints {
    let endpoints = Endpoints::unknown(Dial::default(), metrics.peer(SERVICE));
    endpoints.set(&[Instance { authority, weight: 1 }]);
    endpoints
}

fn failed(why: Unanswered) -> Response<Body> {
    Status::unavailable(why.to_string()).into_http()
}
