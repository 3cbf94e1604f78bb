//! Each layer of the server works among all others: every test here fails without the layer that it names. What a layer
//! does in detail is tested beside it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use mesh_rpc::call::{Call, Connection, Handler, Methods, handler};
use mesh_rpc::server::Limits;
use mesh_rpc::server::layers::stack;
use mesh_rpc::telemetry::Metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};

const GET: &str = "/google.longrunning.Operations/GetOperation";
const WATCH: &str = "/mesh.operations.v1.OperationEventsService/Watch";

/// All layers around a handler.
fn served(innermost: Handler) -> Handler {
    stack(innermost, Limits { in_flight: 1, ..Limits::default() }, Metrics::new(), CancellationToken::new())
}

/// A call from the network.
fn call(path: &str, headers: &[(&'static str, &'static str)], body: Body) -> Call {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Call::new(Methods::of(&[]).find(path), Some(Connection::default()), request.body(body).unwrap())
}

fn bytes(bytes: Vec<u8>) -> Body {
    Body::new(Full::new(Bytes::from(bytes)))
}

fn code(response: &Response<Body>) -> Option<Code> {
    Status::from_header_map(response.headers()).map(|status| status.code())
}

#[tokio::test(start_paused = true)]
async fn shed_refuses_what_cannot_start() {
    let served = served(handler(|call| async {
        match call.request.into_body().collect().await {
            Ok(_) => std::future::pending().await,
            Err(refused) => refused.into_http(),
        }
    }));
    let _first = tokio::spawn(served(call(GET, &[], bytes(vec![7]))));
    tokio::task::yield_now().await;
    assert_eq!(code(&served(call(GET, &[], bytes(vec![7]))).await), Some(Code::ResourceExhausted));
}

#[tokio::test]
async fn compression_is_unknown_to_handlers() {
    let served = served(handler(|call| async {
        assert!(!call.request.headers().contains_key("grpc-encoding"));
        Response::new(bytes(call.request.into_body().collect().await.unwrap().to_bytes().to_vec()))
    }));
    let mut message = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    message.write_all(b"message").unwrap();
    let message = message.finish().unwrap();
    let message = [&[1], &(message.len() as u32).to_be_bytes()[..], &message].concat();
    let response = served(call(GET, &[("grpc-encoding", "gzip")], bytes(message))).await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "\0\0\0\0\u{7}message");
}

#[tokio::test(start_paused = true)]
async fn body_limit_bounds_the_arrival_of_a_request() {
    let served = served(handler(|call| async {
        let arrived = call.request.into_body().collect().await;
        arrived.map_or_else(Status::into_http, |_| Response::new(Body::empty()))
    }));
    let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
    let start = Instant::now();
    assert!(code(&served(call(GET, &[], Body::new(StreamBody::new(silent)))).await).is_some());
    assert_eq!(start.elapsed(), Duration::from_secs(60), "the deadline would be later");
}

#[tokio::test]
async fn drain_ends_a_stream() {
    let draining = CancellationToken::new();
    let silent = handler(|_| async {
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        Response::new(Body::new(StreamBody::new(silent)))
    });
    let served = stack(silent, Limits::default(), Metrics::new(), draining.clone());
    let response = served(call(WATCH, &[], Body::empty())).await;
    draining.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), response.into_body().collect()).await;
    let trailers = ended.expect("the stream has no end").unwrap().trailers().cloned().unwrap();
    assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn deadline_ends_a_handler() {
    let served = served(handler(|_| std::future::pending()));
    let start = Instant::now();
    let ended = served(call(GET, &[("grpc-timeout", "250m")], Body::empty()));
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the call has no end");
    assert_eq!(code(&ended), Some(Code::DeadlineExceeded));
    assert_eq!(start.elapsed(), Duration::from_millis(250));
}

#[tokio::test]
async fn status_size_shortens_a_message() {
    let served = served(handler(|_| async { Status::invalid_argument("long ".repeat(10_000)).into_http() }));
    let response = served(call(GET, &[], Body::empty())).await;
    assert_eq!(code(&response), Some(Code::InvalidArgument));
    let size: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(size < 8 * 1024, "{size} bytes");
}

#[tokio::test]
async fn observe_counts_what_the_caller_receives() {
    let metrics = Metrics::new();
    let panics = handler(|_| async { panic!("on purpose") });
    let served = stack(panics, Limits::default(), metrics.clone(), CancellationToken::new());
    served(call(GET, &[], Body::empty())).await;
    let counted = r#"grpc_server_handled_total{grpc_service="google.longrunning.Operations",grpc_method="GetOperation",grpc_code="Internal"} 1"#;
    assert!(metrics.render().contains(counted), "{}", metrics.render());
}
