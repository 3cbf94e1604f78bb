//! HTTP requests of other processes, for an app without gRPC: they pass the layers of a call.

use std::sync::Arc;

use http::{Method as Verb, Request};
use http_body::Body as _;
use hyper::body::Incoming;
use mesh_rpc::call::{Call, Connection, Handler, Method, plain};
use mesh_rpc::server::Edge;
use tonic::body::Body;

/// Answers HTTP requests to `service` by `layers`.
pub(crate) fn http(service: &'static str, layers: Handler) -> Edge {
    let [read, other] = Method::http(service);
    let through = Arc::clone(&layers);
    let front = move |request: Request<Incoming>, connection: Connection| {
        let reads = matches!(*request.method(), Verb::GET | Verb::HEAD) && request.body().is_end_stream();
        let method = if reads { read } else { other };
        let answering = through(Call::new(method, Some(connection), request.map(Body::new)));
        Box::pin(async move { plain::plain(answering.await) }) as mesh_rpc::call::Answering
    };
    Edge { layers, front: Arc::new(front), guard: Arc::new(|_, _| None), tls: None }
}
