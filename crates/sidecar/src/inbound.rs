//! HTTP requests of other processes, for an app without gRPC: they pass the layers of a call.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use mesh_rpc::call::{Answering, Call, Connection, Handler, HttpMethods, plain};
use mesh_rpc::server::Edge;
use tonic::body::Body;

/// Answers HTTP requests by `layers`.
pub(crate) fn http(methods: HttpMethods, layers: Handler) -> Edge {
    let through = Arc::clone(&layers);
    let front = move |request: Request<Incoming>, connection: Connection| -> Answering {
        let method = methods.for_request(&request);
        let answering = through(Call::new(method, Some(connection), request.map(Body::new)));
        Box::pin(async move { plain::plain(answering.await) })
    };
    Edge { layers, front: Arc::new(front), guard: Arc::new(|_, _| None), tls: None }
}
