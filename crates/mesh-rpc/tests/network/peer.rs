//! A peer that answers as a test says, and channels to it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_rpc::call::Methods;
use mesh_rpc::client::{Calling, Discover, Endpoints, Instance, Peers};
use mesh_rpc::identity::Transport;
use mesh_rpc::telemetry::Metrics;
use tonic::body::Body;

/// Instances at fixed addresses.
struct At(Vec<SocketAddr>);

impl Discover for At {
    fn follow(&self, _: &'static str, endpoints: Endpoints) {
        let instance = |address: &SocketAddr| Instance { authority: address.to_string().parse().unwrap(), weight: 1 };
        endpoints.set(&self.0.iter().map(instance).collect::<Vec<_>>());
    }
}

/// The connection of a request: 0 for the first one of its server. Servers add it to the extensions.
#[derive(Clone, Copy)]
pub(crate) struct Connection(pub(crate) usize);

/// A server that answers each request by `answer`.
pub(crate) async fn server<A>(answer: impl Fn(Request<Body>) -> A + Clone + Send + 'static) -> SocketAddr
where
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let answer = answer.clone();
            let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(Connection(number));
                let answering = answer(request.map(Body::new));
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// `local` services, and all others at these addresses.
pub(crate) fn peers(local: &'static [&'static str], remote: Vec<SocketAddr>) -> Peers {
    peers_observed(local, remote, &Metrics::new())
}

/// The same, with these metrics.
pub(crate) fn peers_observed(local: &'static [&'static str], remote: Vec<SocketAddr>, metrics: &Metrics) -> Peers {
    let local = BTreeSet::from_iter(local.iter().copied());
    Peers::new(
        "test",
        local,
        Arc::new(At(remote)),
        Methods::of(&[]),
        Calling {
            deadline: Duration::from_secs(10),
            transport: Transport::default(),
            passports: None,
            metrics: metrics.clone(),
        },
    )
}
