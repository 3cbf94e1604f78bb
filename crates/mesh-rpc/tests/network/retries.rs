//! Retries and pushbacks.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use mesh_rpc::call::error::{NOT_CAUGHT_UP, unavailable};
use mesh_rpc::client::Channel;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service as _;

use crate::peer::{peers, server};

/// An idempotent method, and one that is not.
const GET: &str = "/google.longrunning.Operations/GetOperation";
const UNKNOWN: &str = "/made.up.Service/Method";

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
    let agent = seen[0]["user-agent"].to_str().unwrap();
    assert!(agent.starts_with("grpc-rust-mesh/") && agent.ends_with(" (test)"), "{agent}");
}

#[tokio::test]
async fn retry_waits_for_the_pushback() {
    let (seen, took) = requests(GET, Some("150")).await;
    assert!(seen.len() == 3 && took >= Duration::from_millis(300), "{} attempts in {took:?}", seen.len());
}

#[tokio::test]
async fn retry_of_a_call_whose_copy_is_behind_waits_for_the_retry_info_with_the_token() {
    const TOKEN: &str = "catalog=4bf92f35-77b3-4da6-a3ce-929d0e0e4736.7";
    let seen = Arc::new(Mutex::new(0));
    let attempts = Arc::clone(&seen);
    let address = server(move |request| {
        assert_eq!(request.headers()["mesh-consistency"], TOKEN);
        let mut attempts = attempts.lock().unwrap();
        *attempts += 1;
        let mut response = match *attempts {
            3.. => Status::ok("").into_http(),
            _ => unavailable(NOT_CAUGHT_UP, "on purpose", Duration::from_millis(150)).into_http(),
        };
        response.headers_mut().remove("grpc-retry-pushback-ms");
        async { response }
    })
    .await;
    let peers = peers(&[], vec![address]);
    let request = Request::builder().uri(format!("http://mesh{GET}")).header("mesh-consistency", TOKEN);
    let start = Instant::now();
    let answer = peers.channel("back").call(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::Ok);
    assert!(*seen.lock().unwrap() == 3 && start.elapsed() >= Duration::from_millis(300), "{:?}", start.elapsed());
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
