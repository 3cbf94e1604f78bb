//! Each layer of the server works among all others: every test here fails without the layer that it names. What a layer
//! does in detail is tested beside it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures_util::StreamExt as _;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use mesh_rpc::auth::{Gate, Mode, Settings};
use mesh_rpc::call::{Call, Connection, Handler, Methods, Token, handler};
use mesh_rpc::server::layers::stack;
use mesh_rpc::server::{KnownPlaces, Limits, Pending, Places};
use mesh_rpc::telemetry::{Exposition, Metrics};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};

const GET: &str = "/google.longrunning.Operations/GetOperation";
const WATCH: &str = "/mesh.operations.v1.OperationEventsService/Watch";

/// All layers around a handler.
fn served(innermost: Handler) -> Handler {
    stack(
        innermost,
        Limits { in_flight: 1, ..Limits::default() },
        Metrics::new(),
        CancellationToken::new(),
        KnownPlaces::default(),
        Gate::open(),
    )
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

#[tokio::test]
async fn access_refuses_before_the_request_is_read() {
    let settings = Settings {
        mode: Mode::Required,
        tokens: None,
        vouchers: Vec::new(),
        shows_contracts: false,
        intentions: None,
        is_development: false,
    };
    let unreached = handler(|_| async { panic!("the handler started") });
    let gate = Gate::new(&settings, None, Metrics::new());
    let draining = CancellationToken::new();
    let served = stack(unreached, Limits::default(), Metrics::new(), draining, KnownPlaces::default(), gate);
    let endless = || Body::new(StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Status>>()));
    for headers in [&[][..], &[("authorization", "Bearer x")], &[("mesh-passport", "anonymous")]] {
        assert_eq!(code(&served(call(GET, headers, endless())).await), Some(Code::Unauthenticated), "{headers:?}");
    }
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

/// Places of a process whose copies lag for ever.
struct Lagging;

impl Places for Lagging {
    fn reached<'a>(&'a self, _: &'a str, _: &'a Token) -> Pending<'a, ()> {
        Box::pin(std::future::pending())
    }

    fn published<'a>(&'a self, _: &'a str) -> Pending<'a, Option<Token>> {
        Box::pin(std::future::ready(None))
    }
}

#[tokio::test(start_paused = true)]
async fn own_writes_are_waited_for_before_the_request_is_read() {
    let places = KnownPlaces::default();
    let _ = places.set(Box::new(Lagging));
    let limits = Limits { in_flight: 1, streams: 1, ..Limits::default() };
    let unreached = handler(|_| async { panic!("the handler runs") });
    let served = stack(unreached, limits, Metrics::new(), CancellationToken::new(), places, Gate::open());
    let token = [("mesh-consistency", "catalog=4bf92f35-77b3-4da6-a3ce-929d0e0e4736.7")];
    let unread = || {
        let read = futures_util::stream::once(async { panic!("the request is read") });
        Body::new(StreamBody::new(read.map(|()| Ok::<Frame<Bytes>, Status>(Frame::data(Bytes::new())))))
    };
    // Both wait at the same time, although there is one permit of each kind.
    let waiting = [GET, GET, WATCH, WATCH].map(|path| tokio::spawn(served(call(path, &token, unread()))));
    let start = Instant::now();
    for answer in waiting {
        assert_eq!(code(&answer.await.unwrap()), Some(Code::Unavailable));
    }
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn drain_ends_a_stream() {
    let draining = CancellationToken::new();
    let silent = handler(|_| async {
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, Status>>();
        Response::new(Body::new(StreamBody::new(silent)))
    });
    let served =
        stack(silent, Limits::default(), Metrics::new(), draining.clone(), KnownPlaces::default(), Gate::open());
    let response = served(call(WATCH, &[], Body::empty())).await;
    draining.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(10), response.into_body().collect()).await;
    let trailers = ended.expect("the stream has no end").unwrap().trailers().cloned().unwrap();
    assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::Unavailable);
}

#[tokio::test]
async fn drain_ends_a_stream_behind_the_frame_that_is_ready() {
    let draining = CancellationToken::new();
    let endless = handler(|_| async {
        let endless =
            futures_util::stream::repeat_with(|| Ok::<_, Status>(Frame::data(Bytes::from_static(b"message"))));
        Response::new(Body::new(StreamBody::new(endless)))
    });
    let served =
        stack(endless, Limits::default(), Metrics::new(), draining.clone(), KnownPlaces::default(), Gate::open());
    let mut body = served(call(WATCH, &[], Body::empty())).await.into_body();
    draining.cancel();
    let message = body.frame().await.expect("a frame").unwrap();
    assert!(message.is_data(), "it was ready at the drain: {message:?}");
    let trailers = body.frame().await.expect("a frame").unwrap().into_trailers().expect("one message, then the end");
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
    let served = stack(
        panics,
        Limits::default(),
        metrics.clone(),
        CancellationToken::new(),
        KnownPlaces::default(),
        Gate::open(),
    );
    served(call(GET, &[], Body::empty())).await;
    let counted = r#"grpc_server_handled_total{grpc_service="google.longrunning.Operations",grpc_method="GetOperation",grpc_code="Internal"} 1"#;
    assert!(metrics.render(Exposition::Text).contains(counted), "{}", metrics.render(Exposition::Text));
}
