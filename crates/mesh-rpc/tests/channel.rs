//! Tests of calls to a peer in the same process, through the layers of the server.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use mesh_rpc::auth::Gate;
use mesh_rpc::call::{Call, Cause, Context, GrpcService, Methods, Token, Trace, handler};
use mesh_rpc::client::{Calling, Peers};
use mesh_rpc::discovery::{Discovery, Registry};
use mesh_rpc::identity::Transport;
use mesh_rpc::server::layers::{dispatch, stack};
use mesh_rpc::server::{KnownPlaces, Limits, Pending, Places};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;

/// A mesh with the service `echo`: it returns the headers of the request, and its cause, after `wait` milliseconds. Its
/// method `Panic` panics.
fn peers() -> Peers {
    let echo = tower::service_fn(|request: Request<Body>| async move {
        if request.uri().path().ends_with("/Panic") {
            panic!("on purpose");
        }
        let wait =
            request.headers().get("wait").map_or(0, |wait| wait.to_str().expect("text").parse().expect("a number"));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let mut response = Status::ok("").into_http::<Body>();
        if let Some(cause) = Context::current().cause {
            response.headers_mut().insert("cause", cause.to_string().parse().expect("a header"));
        }
        response.headers_mut().extend(request.headers().clone());
        Ok::<_, Infallible>(response)
    });
    let discovery = Discovery::new(&Registry::Local, &Tasks::default()).expect("a source");
    let peers = Peers::new(
        "test",
        BTreeSet::from(["echo"]),
        Arc::new(discovery),
        Methods::of(&[]),
        Calling {
            deadline: Duration::from_secs(10),
            transport: Transport::default(),
            passports: None,
            metrics: Metrics::new(),
        },
    );
    let services = HashMap::from([("echo.v1.Echo", GrpcService::new(echo))]);
    peers.ready(stack(
        dispatch(services, None),
        Limits::default(),
        Metrics::new(),
        CancellationToken::new(),
        KnownPlaces::default(),
        Gate::open(),
    ));
    peers
}

async fn call(service: &'static str, method: &str, headers: &[(&'static str, &'static str)]) -> Response<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("http://mesh/echo.v1.Echo/{method}").parse().expect("a header or a URI");
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().expect("a header or a URI"));
    }
    let peers = peers();
    peers.channel(service).call(request).await.expect("an answer")
}

fn code(response: &Response<Body>) -> Code {
    Status::from_header_map(response.headers()).expect("a status").code()
}

#[tokio::test(start_paused = true)]
async fn deadline_defaults_to_the_configured_one() {
    let start = Instant::now();
    let response = call("echo", "Wait", &[("wait", "3600000")]).await;
    assert_eq!(code(&response), Code::DeadlineExceeded);
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn deadline_travels_to_the_peer_less_a_margin() {
    let deadline = Some(Instant::now() + Duration::from_secs(2));
    let context = Context { deadline, ..Context::default() };
    let response = context.clone().scope(call("echo", "Now", &[("grpc-timeout", "1H")])).await;
    assert_eq!(response.headers()["grpc-timeout"], "1995000u");
    let response = context.scope(call("echo", "Now", &[("grpc-timeout", "500m")])).await;
    assert_eq!(response.headers()["grpc-timeout"], "500000u");
}

#[tokio::test]
async fn trace_travels_to_the_peer() {
    let context = Context { trace_state: Some("one=1".parse().unwrap()), ..Context::default() };
    let response = context.clone().scope(call("echo", "Now", &[])).await;
    let sent = Trace::from_headers(response.headers()).unwrap();
    assert_eq!(sent.trace_id, context.trace.trace_id);
    assert_ne!(sent.span_id, context.trace.span_id, "the call has a span of its own");
    assert_eq!(response.headers()["tracestate"], "one=1");
}

#[tokio::test]
async fn cause_travels_to_the_peer() {
    let response = Context::default().scope(call("echo", "Now", &[])).await;
    assert!(!response.headers().contains_key("mesh-cause"), "a call that begins something has none");
    let trace = Trace::begin();
    let cause = Cause::event(uuid::Uuid::now_v7(), Cause::first(trace).correlation, 2);
    let context = Context { cause: Some(cause), ..Context::default() };
    let response = context.scope(call("echo", "Cause", &[])).await;
    assert_eq!(response.headers()["mesh-cause"], cause.to_string());
    assert_eq!(response.headers()["cause"], cause.to_string(), "the handler has it");
}

/// Places of a process that publishes and follows nothing.
struct Nothing;

impl Places for Nothing {
    fn reached<'a>(&'a self, _: &'a str, _: &'a Token) -> Pending<'a, ()> {
        Box::pin(std::future::ready(()))
    }

    fn published<'a>(&'a self, _: &'a str) -> Pending<'a, Option<Token>> {
        Box::pin(std::future::ready(None))
    }
}

#[tokio::test]
async fn consistency_travels_to_the_peer_and_tokens_come_back() {
    const HEADER: &str = "mesh-consistency";
    const ASKED: &str = "want, catalog=4bf92f35-77b3-4da6-a3ce-929d0e0e4736.7";
    const OWN: &str = "billing=4bf92f35-77b3-4da6-a3ce-929d0e0e4736.9";
    // The echo returns what it gets.
    let asks = handler(|_| async {
        let passed_on = call("echo", "Now", &[]).await;
        assert_eq!(passed_on.headers()[HEADER], ASKED);
        let own = call("echo", "Now", &[(HEADER, OWN)]).await;
        assert_eq!(own.headers()[HEADER], OWN, "what the handler asks for stays");
        Status::ok("").into_http()
    });
    let places = KnownPlaces::default();
    let _ = places.set(Box::new(Nothing));
    let stack = stack(asks, Limits::default(), Metrics::new(), CancellationToken::new(), places, Gate::open());
    let answer = async |header: &str| {
        let request = Request::builder().uri("/echo.v1.Echo/Ask").header(HEADER, header).body(Body::empty());
        stack(Call::new(Methods::of(&[]).find("/echo.v1.Echo/Ask"), None, request.unwrap())).await
    };
    let token = ASKED.replace("want, ", "");
    assert_eq!(answer(ASKED).await.headers()[HEADER], format!("{token}, {OWN}"));
    let response = call("echo", "Now", &[]).await;
    assert!(!response.headers().contains_key(HEADER), "a call without the header has none");
}

#[tokio::test]
async fn channel_without_instances_fails_fast_and_names_the_service() {
    let response = call("billing", "Now", &[]).await;
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("billing"), "{status}");
}

#[tokio::test]
async fn failure_of_the_peer_is_marked_as_one() {
    let response = call("echo", "Panic", &[]).await;
    assert_eq!(code(&response), Code::Internal);
    assert_eq!(response.headers()["mesh-peer"], "echo.v1.Echo/Panic");
    assert!(!call("echo", "Now", &[]).await.headers().contains_key("mesh-peer"));
}

#[tokio::test]
async fn panic_of_the_peer_is_a_status() {
    assert_eq!(code(&call("echo", "Panic", &[]).await), Code::Internal);
}
