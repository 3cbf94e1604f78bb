//! What becomes of a peer's answer: compressed, malformed, or no gRPC. A service asks the peer, and returns a failure
//! unchanged; the tests look at what the caller of that service sees (docs/CONTRACTS.md).

use std::convert::Infallible;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_util::stream;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use mesh_proto::google::longrunning::operations_client::OperationsClient;
use mesh_proto::google::longrunning::{GetOperationRequest, Operation};
use mesh_proto::grpc::health::v1::HealthCheckRequest;
use mesh_proto::grpc::health::v1::health_client::HealthClient;
use mesh_rpc::auth::Gate;
use mesh_rpc::call::{Call, GrpcService, GrpcServices, Methods};
use mesh_rpc::client::Channel;
use mesh_rpc::server::layers::{dispatch, stack};
use mesh_rpc::server::{KnownPlaces, Limits};
use mesh_rpc::telemetry::Metrics;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::peer::{peers, server};

/// The answer of a peer.
#[derive(Clone)]
struct Answer {
    http: u16,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
    /// `grpc-status` in the trailers.
    status: Option<&'static str>,
}

/// An answer in gRPC, without a fault.
fn grpc(body: Vec<u8>) -> Answer {
    Answer { http: 200, headers: &[("content-type", "application/grpc")], body, status: Some("0") }
}

impl Answer {
    fn response(self) -> Response<Body> {
        let mut response = Response::builder().status(self.http);
        for (name, value) in self.headers {
            response = response.header(*name, *value);
        }
        let trailers =
            self.status.map(|code| HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]));
        let frames = [Some(Frame::data(Bytes::from(self.body))), trailers.map(Frame::trailers)];
        let frames = stream::iter(frames.into_iter().flatten().map(Ok::<_, Status>));
        response.body(Body::new(StreamBody::new(frames))).unwrap()
    }
}

fn message(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// How the service asks the peer.
#[derive(Clone, Copy, Debug)]
enum Asks {
    /// By a call whose answer the channel buffers for a retry.
    Once,
    /// By a stream.
    Stream,
}

async fn ask(asks: Asks, channel: Channel) -> Result<String, Status> {
    match asks {
        Asks::Once => {
            let answer = OperationsClient::new(channel).get_operation(GetOperationRequest::default()).await?;
            Ok(answer.into_inner().name)
        }
        Asks::Stream => {
            let mut answers = HealthClient::new(channel).watch(HealthCheckRequest::default()).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(String::new())
        }
    }
}

/// What a caller of the service sees, as code and reason, and the headers of the last request to the peer. The message
/// of OK is the name that the peer answered.
async fn seen(asks: Asks, answer: Answer) -> (Status, HeaderMap) {
    let requested = Arc::new(Mutex::new(HeaderMap::new()));
    let headers = Arc::clone(&requested);
    let address = server(move |request| {
        *headers.lock().unwrap() = request.headers().clone();
        let answer = answer.clone();
        async { answer.response() }
    })
    .await;
    let peers = peers(&[], vec![address]);
    let channel = peers.channel("back");
    let service = tower::service_fn(move |_: Request<Body>| {
        let channel = channel.clone();
        async move { Ok::<_, Infallible>(ask(asks, channel).await.map_or_else(|failed| failed, Status::ok).into_http()) }
    });
    let services = GrpcServices::from([("google.longrunning.Operations", GrpcService::new(service))]);
    let stack = stack(
        dispatch(services, None),
        Limits::default(),
        Metrics::new(),
        CancellationToken::new(),
        KnownPlaces::default(),
        Gate::open(),
    );
    let path = "/google.longrunning.Operations/GetOperation";
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response = stack(Call::new(Methods::of(&[]).find(path), None, request)).await;
    let requested = requested.lock().unwrap().clone();
    (Status::from_header_map(response.headers()).unwrap(), requested)
}

fn named(name: &str) -> Vec<u8> {
    Operation { name: name.to_owned(), ..Operation::default() }.encode_to_vec()
}

#[tokio::test]
async fn answer_in_gzip_is_decompressed() {
    let name = "x".repeat(5000);
    let gzip = &[("content-type", "application/grpc"), ("grpc-encoding", "gzip")];
    for body in [message(1, &gzipped(&named(&name))), message(0, &named(&name))] {
        let (status, requested) = seen(Asks::Once, Answer { headers: gzip, ..grpc(body) }).await;
        assert_eq!((status.code(), status.message()), (Code::Ok, &*name), "{status:?}");
        assert_eq!(requested["grpc-accept-encoding"], "identity,gzip");
        assert!(!requested.contains_key("grpc-encoding"), "a request is not compressed: {requested:?}");
    }
}

/// Answers that no client can read, and their names.
fn malformed() -> Vec<(&'static str, Answer)> {
    let html =
        || Answer { headers: &[("content-type", "text/html")], status: None, ..grpc(b"<html>no</html>".to_vec()) };
    vec![
        ("no protobuf", grpc(message(0, &[0xff; 9]))),
        ("half a frame", grpc(message(0, &named("film"))[..7].to_vec())),
        ("half a prefix", grpc(vec![0, 0])),
        ("an unknown flag", grpc(message(7, &named("film")))),
        ("compressed in an unknown way", grpc(message(1, &gzipped(&named("film"))))),
        (
            "no gzip",
            Answer {
                headers: &[("content-type", "application/grpc"), ("grpc-encoding", "gzip")],
                ..grpc(message(1, b"no gzip"))
            },
        ),
        ("a web page", html()),
        ("a web page that is not found", Answer { http: 404, ..html() }),
        ("a status that is no number", Answer { status: Some("soon"), ..grpc(message(0, b"")) }),
        ("no status", Answer { status: None, ..grpc(message(0, b"")) }),
    ]
}

#[tokio::test]
async fn answer_that_is_malformed_is_a_failure_of_the_peer() {
    let mut wrong = Vec::new();
    for asks in [Asks::Once, Asks::Stream] {
        for (what, answer) in malformed() {
            // tonic ends a stream at its trailers, and drops a message that is not complete then.
            if matches!(asks, Asks::Stream) && what.starts_with("half") {
                continue;
            }
            let (status, _) = seen(asks, answer).await;
            let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            let expected = (status.code(), &*reason) == (Code::Internal, "PEER_FAILED");
            if !expected || status.message().contains("html") {
                wrong.push(format!("{asks:?}, {what}: {:?} {reason} {}", status.code(), status.message()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn answer_of_a_proxy_without_its_peer_may_be_retried() {
    for asks in [Asks::Once, Asks::Stream] {
        for http in [502, 503, 504] {
            let headers = &[("content-type", "text/html")];
            let (status, _) = seen(asks, Answer { http, headers, status: None, ..grpc(b"<html>".to_vec()) }).await;
            let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
            assert_eq!((status.code(), &*reason), (Code::Unavailable, "PEER_UNAVAILABLE"), "{asks:?}: {status:?}");
            assert!(!status.message().contains("html") && !status.message().contains("HTTP"), "{status:?}");
        }
    }
}
