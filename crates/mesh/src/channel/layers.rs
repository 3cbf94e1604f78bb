//! What a call to a remote peer goes through, with less and less of it: for the benchmark.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http::uri::{Authority, Scheme, Uri};
use tonic::Status;
use tonic::body::Body;
use tower::Service as _;

use super::Peers;
use super::connections::{Connections, Unanswered};
use super::deadline::Deadline;
use super::endpoints::Endpoints;
use super::failure::no_endpoints;
use super::retry::Remote;
use crate::contract::Methods;
use crate::handler::{Call, Handler, handler};
use crate::registry::{Instance, Registry};
use crate::telemetry::Metrics;

const SERVICE: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(10);

/// Innermost first, each around those before it. Every one has connections of its own.
pub(crate) fn calling(server: SocketAddr, methods: &Methods) -> Vec<(&'static str, Handler)> {
    // An IP address and a port are always an authority.
    let Ok(authority) = server.to_string().parse::<Authority>() else { return Vec::new() };
    vec![
        ("connection", connection(authority.clone())),
        ("endpoint", endpoint(authority.clone())),
        ("retry", retry(authority)),
        ("deadline and telemetry", channel(server, methods.clone())),
    ]
}

fn connection(authority: Authority) -> Handler {
    let connections = Arc::new(Connections::to(authority.clone()));
    handler(move |Call { mut request, .. }| {
        let connections = Arc::clone(&connections);
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        (parts.scheme, parts.authority) = (Some(Scheme::HTTP), Some(authority.clone()));
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        async move { connections.send(request).await.map_or_else(failed, |(response, _)| response.map(Body::new)) }
    })
}

fn endpoint(authority: Authority) -> Handler {
    let endpoints = endpoints(authority, &Metrics::new());
    handler(move |Call { method, request }| {
        let endpoints = endpoints.clone();
        async move {
            match endpoints.pick(&[]).await {
                Some(endpoint) => endpoint.call(method, request, Deadline::default()).await.unwrap_or_else(failed),
                None => no_endpoints(SERVICE).into_http(),
            }
        }
    })
}

fn retry(authority: Authority) -> Handler {
    let metrics = Metrics::new();
    let remote = Arc::new(Remote::new(SERVICE, endpoints(authority, &metrics), metrics.peer(SERVICE)));
    handler(move |call| {
        let remote = Arc::clone(&remote);
        async move { remote.call(call, Deadline::default()).await }
    })
}

/// All of it, as services have it.
fn channel(server: SocketAddr, methods: Methods) -> Handler {
    let registry = Registry::Static(BTreeMap::from([(SERVICE.to_owned(), vec![server])]));
    let peers = Peers::new(BTreeSet::new(), registry, methods, DEADLINE, Metrics::new());
    let channel = peers.channel(SERVICE);
    handler(move |Call { request, .. }| {
        // A channel does not keep what it leads to.
        let _alive = &peers;
        let answering = channel.clone().call(request);
        async move {
            let Ok(response) = answering.await;
            response
        }
    })
}

fn endpoints(authority: Authority, metrics: &Metrics) -> Endpoints {
    let endpoints = Endpoints::unknown(metrics.peer(SERVICE));
    endpoints.set(&[Instance { authority, weight: 1 }]);
    endpoints
}

fn failed(why: Unanswered) -> Response<Body> {
    Status::unavailable(why.to_string()).into_http()
}
