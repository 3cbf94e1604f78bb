//! Tests of retries over the network. The peer is a server of HTTP/2 that answers as a test says.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_rpc::call::Methods;
use mesh_rpc::client::{Channel, Discover, Endpoints, Instance, Peers};
use mesh_rpc::telemetry::Metrics;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;

/// An idempotent method, and one that is not.
const GET: &str = "/google.longrunning.Operations/GetOperation";
const UNKNOWN: &str = "/made.up.Service/Method";

/// Instances at fixed addresses.
struct At(Vec<SocketAddr>);

impl Discover for At {
    fn follow(&self, _: &'static str, endpoints: Endpoints) {
        let instance = |address: &SocketAddr| Instance { authority: address.to_string().parse().unwrap(), weight: 1 };
        endpoints.set(&self.0.iter().map(instance).collect::<Vec<_>>());
    }
}

/// A server that answers each request by `answer`.
async fn server<A>(answer: impl Fn(Request<Body>) -> A + Clone + Send + 'static) -> SocketAddr
where
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let answering = answer(request.map(Body::new));
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

fn peers(local: &'static [&'static str], remote: Vec<SocketAddr>) -> Peers {
    let local = BTreeSet::from_iter(local.iter().copied());
    Peers::new(local, Arc::new(At(remote)), Methods::of(&[]), Duration::from_secs(10), Metrics::new())
}

async fn call(channel: &Channel, path: &str) -> Response<Body> {
    let request = Request::builder().uri(format!("http://mesh{path}")).body(Body::empty()).unwrap();
    channel.clone().call(request).await.unwrap()
}

/// The headers of every request to a server that answers UNAVAILABLE, with this pushback, until its third request.
async fn requests(path: &str, pushback: Option<&'static str>) -> (Vec<HeaderMap>, Duration) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&seen);
    let address = server(move |request| {
        let mut seen = recorded.lock().unwrap();
        seen.push(request.headers().clone());
        let mut response = match seen.len() {
            3.. => Status::ok("").into_http(),
            _ => Status::unavailable("on purpose").into_http(),
        };
        if let Some(pushback) = pushback {
            response.headers_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
        }
        async { response }
    })
    .await;
    let peers = peers(&[], vec![address]);
    let start = Instant::now();
    call(&peers.channel("back"), path).await;
    let seen = seen.lock().unwrap().clone();
    (seen, start.elapsed())
}

#[tokio::test]
async fn retry_sends_the_number_of_attempts_before_it() {
    let (seen, _) = requests(GET, None).await;
    let previous: Vec<_> = seen.iter().map(|headers| headers.get("grpc-previous-rpc-attempts")).collect();
    assert_eq!(previous.len(), 3);
    assert!(previous[0].is_none() && previous[1].unwrap() == "1" && previous[2].unwrap() == "2", "{previous:?}");
}

#[tokio::test]
async fn call_names_the_client() {
    let (seen, _) = requests(GET, None).await;
    assert!(seen[0]["user-agent"].to_str().unwrap().starts_with("grpc-rust-mesh/"), "{:?}", seen[0]);
}

#[tokio::test]
async fn retry_waits_for_the_pushback() {
    let (seen, took) = requests(GET, Some("150")).await;
    assert!(seen.len() == 3 && took >= Duration::from_millis(300), "{} attempts in {took:?}", seen.len());
}

#[tokio::test]
async fn retry_is_forbidden_by_a_pushback_without_a_time() {
    assert_eq!(requests(GET, Some("-1")).await.0.len(), 1);
    assert_eq!(requests(GET, Some("later")).await.0.len(), 1);
}

#[tokio::test]
async fn retry_of_a_call_that_must_not_be_repeated_ignores_the_pushback() {
    assert_eq!(requests(UNKNOWN, Some("1")).await.0.len(), 1);
}

#[tokio::test]
async fn answer_above_the_buffer_arrives_while_it_is_sent() {
    // It never ends: a call that buffered it would not answer.
    let address = server(|_| async {
        let chunks = stream::repeat(()).map(|()| Ok::<_, Status>(Frame::data(Bytes::from(vec![7; 1 << 20]))));
        Response::new(Body::new(StreamBody::new(chunks)))
    })
    .await;
    let peers = peers(&[], vec![address]);
    let mut body = call(&peers.channel("back"), GET).await.into_body();
    let mut bytes = 0;
    while bytes < 20 << 20 {
        bytes += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
}

#[tokio::test]
async fn request_above_the_buffer_is_sent_once_and_whole() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let lengths = Arc::clone(&received);
    let address = server(move |request| {
        let lengths = Arc::clone(&lengths);
        async move {
            let length = request.into_body().collect().await.unwrap().to_bytes().len();
            lengths.lock().unwrap().push(length);
            Status::unavailable("on purpose").into_http()
        }
    })
    .await;
    let peers = peers(&[], vec![address]);
    for (length, attempts) in [(17 << 20, 1), (1 << 20, 5)] {
        received.lock().unwrap().clear();
        let body = Body::new(http_body_util::Full::new(Bytes::from(vec![7; length])).map_err(|never| match never {}));
        let request = Request::builder().uri(format!("http://mesh{GET}")).body(body).unwrap();
        let response = peers.channel("back").call(request).await.unwrap();
        assert_eq!(Status::from_header_map(response.headers()).unwrap().code(), Code::Unavailable);
        let received = received.lock().unwrap().clone();
        assert!(received.iter().all(|received| *received == length), "{received:?}");
        assert!(if attempts == 1 { received.len() == 1 } else { received.len() > 1 }, "{received:?}");
    }
}
