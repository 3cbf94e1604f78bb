//! What the channel promises whatever its peers do: each test fails without the part of the client that it names.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use mesh_rpc::client::Channel;
use mesh_rpc::telemetry::{Exposition, Metrics};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;

use crate::peer::{Connection, peers, peers_observed, server};

/// An idempotent method, one that is not, and a stream.
const GET: &str = "/google.longrunning.Operations/GetOperation";
const UNKNOWN: &str = "/made.up.Service/Method";
const WATCH: &str = "/mesh.operations.v1.OperationEventsService/Watch";

async fn call(channel: &Channel, path: &str, timeout: &str) -> Response<Body> {
    let request = Request::builder().uri(format!("http://mesh{path}")).header("grpc-timeout", timeout);
    channel.clone().call(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn code(response: &Response<Body>) -> Option<Code> {
    Status::from_header_map(response.headers()).map(|status| status.code())
}

/// Whether a request is no health check. It is counted then.
fn counted(request: &Request<Body>, calls: &AtomicUsize) -> bool {
    let call = !request.uri().path().starts_with("/grpc.health");
    calls.fetch_add(call.into(), Ordering::Relaxed);
    call
}

#[tokio::test]
async fn budget_bounds_the_retries_of_all_calls() {
    const CALLS: usize = 300;
    let attempts = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&attempts);
    let failing = server(move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        async { Status::unavailable("on purpose").into_http() }
    });
    let peers = peers(&[], vec![failing.await]);
    let channel = peers.channel("back");
    join_all((0..CALLS).map(|_| call(&channel, GET, "10S"))).await;
    let attempts = attempts.load(Ordering::Relaxed);
    // Ten more than the share: one retry a second is always free.
    assert!((CALLS + 1..=CALLS * 6 / 5 + 10).contains(&attempts), "{attempts} attempts");
}

#[tokio::test]
async fn ejected_instance_returns_when_a_probe_passes() {
    let (calls, fails) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (seen, failing) = (Arc::clone(&calls), Arc::clone(&fails));
    let one = server(move |request| {
        let answer = match (counted(&request, &seen), failing.load(Ordering::Relaxed)) {
            (false, _) => Status::unimplemented("no health"),
            (true, true) => Status::internal("on purpose"),
            (true, false) => Status::ok(""),
        };
        async move { answer.into_http() }
    });
    let other = server(|_| async { Status::ok("").into_http() });
    let peers = peers(&[], vec![one.await, other.await]);
    let channel = peers.channel("back");
    for _ in 0..100 {
        call(&channel, UNKNOWN, "10S").await;
    }
    let before = calls.load(Ordering::Relaxed);
    assert_eq!(before, 5, "the fifth failure ejects it");
    fails.store(false, Ordering::Relaxed);
    let start = Instant::now();
    while calls.load(Ordering::Relaxed) == before {
        assert!(start.elapsed() < Duration::from_secs(30), "no probe has passed");
        call(&channel, UNKNOWN, "10S").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn silent_instance_is_ejected() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let silent = server(move |request| {
        counted(&request, &seen);
        std::future::pending()
    });
    let other = server(|_| async { Status::ok("").into_http() });
    let peers = peers(&[], vec![silent.await, other.await]);
    let channel = peers.channel("back");
    for _ in 0..60 {
        call(&channel, UNKNOWN, "150m").await;
    }
    assert_eq!(calls.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn silent_connection_gets_no_new_calls() {
    let first_is_silent = server(|request| async move {
        match request.extensions().get() {
            Some(Connection(0)) => std::future::pending().await,
            _ => Status::ok("").into_http(),
        }
    });
    let peers = peers(&[], vec![first_is_silent.await]);
    let channel = peers.channel("back");
    // The connection answers pings all the time: only its calls can tell that it is silent.
    for _ in 0..100 {
        if code(&call(&channel, UNKNOWN, "50m").await) == Some(Code::Ok) {
            return;
        }
    }
    panic!("no call took another connection");
}

/// Makes so many calls at once, again and again, and returns how many connections the last ones took.
async fn connections_of(calls: usize) -> usize {
    let slow = server(|request| async move {
        let Some(Connection(number)) = request.extensions().get().copied() else { return Response::default() };
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut response = Status::ok("").into_http();
        response.headers_mut().insert("connection-number", number.into());
        response
    });
    let peers = peers(&[], vec![slow.await]);
    let channel = peers.channel("back");
    let all = || join_all((0..calls).map(|_| call(&channel, UNKNOWN, "10S")));
    // The first calls open a connection, and the second ones another if they find it busy.
    all().await;
    all().await;
    let numbers = all().await.into_iter().map(|response| response.headers()["connection-number"].clone());
    numbers.collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn process_of_one_thread_has_one_connection_until_streams_may_run_out() {
    assert_eq!(connections_of(90).await, 1);
    assert_eq!(connections_of(110).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_of_several_threads_has_more_than_one_connection() {
    assert!(connections_of(90).await > 1);
}

#[tokio::test]
async fn broken_response_of_an_idempotent_call_is_retried() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let breaking = server(move |_| {
        let first = seen.fetch_add(1, Ordering::Relaxed) == 0;
        let rest = if first { Err(Status::internal("on purpose")) } else { Ok(Frame::trailers(ok())) };
        let message = stream::iter([Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\0")))]);
        // A reset that overtakes the head would leave the call without a response.
        let rest = stream::once(async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            rest
        });
        let frames = message.chain(rest);
        async { Response::new(Body::new(StreamBody::new(frames))) }
    });
    let peers = peers(&[], vec![breaking.await]);
    let response = call(&peers.channel("back"), GET, "10S").await;
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 5);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

fn ok() -> http::HeaderMap {
    Status::ok("").into_http::<Body>().headers().clone()
}

#[tokio::test]
async fn deadline_ends_a_call_that_its_peer_does_not_answer() {
    let peers = peers(&[], vec![server(|_| std::future::pending()).await]);
    let ended =
        tokio::time::timeout(Duration::from_secs(10), async { code(&call(&peers.channel("back"), GET, "100m").await) });
    assert_eq!(ended.await.expect("the call has no end"), Some(Code::DeadlineExceeded));
}

#[tokio::test]
async fn deadline_ends_a_stream_of_a_silent_peer() {
    let silent = server(|_| async {
        Response::new(Body::new(StreamBody::new(stream::pending::<Result<Frame<Bytes>, Status>>())))
    });
    let peers = peers(&[], vec![silent.await]);
    let response = call(&peers.channel("back"), WATCH, "300m").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), response.into_body().collect()).await;
    let trailers = ended.expect("the stream has no end").unwrap().trailers().cloned().unwrap();
    assert_eq!(Status::from_header_map(&trailers).unwrap().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn call_counts_once_with_all_of_its_attempts() {
    let metrics = Metrics::new();
    let failing = server(|_| async { Status::unavailable("on purpose").into_http() }).await;
    let peers = peers_observed(&[], vec![failing], &metrics);
    call(&peers.channel("back"), GET, "10S").await;
    let counted = r#"grpc_client_handled_total{grpc_service="google.longrunning.Operations",grpc_method="GetOperation",grpc_code="Unavailable",caller="test"} 1"#;
    assert!(metrics.render(Exposition::Text).contains(counted), "{}", metrics.render(Exposition::Text));
    let edges = metrics.edges.all();
    let [edge] = edges[..] else { panic!("{} edges", edges.len()) };
    let (totals, failure) = (edge.totals(), edge.last_failure().unwrap());
    let [kept] = metrics.edges.kept(2, None, true).0[..] else { panic!("not kept once") };
    assert_eq!(
        (totals.ended(), totals.retries, u64::from(kept.attempts)),
        (1, totals.retries.max(1), totals.retries + 1)
    );
    assert_eq!((failure.code, failure.reason, failure.trace), (Code::Unavailable, "", kept.trace));
}
