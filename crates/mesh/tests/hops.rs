//! Calls in memory: four services in one process that call each other. Checks the budget and the cancellation of a
//! call.
//!
//! The same between processes is in tests/framework/film/calls/deadlines.rs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use mesh::context::Context;
use mesh::testing::Mesh;
use mesh::{Channel, Service, peer};
use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};
use tower::Service as _;

/// One gRPC service for each hop.
const CONTRACTS: [&str; 4] = ["one.v1.Hop", "two.v1.Hop", "three.v1.Hop", "four.v1.Hop"];

static DESCRIPTORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let file = CONTRACTS.iter().map(|contract| {
        let (package, service) = contract.rsplit_once('.').unwrap();
        let message = || Some(format!(".{package}.Nothing"));
        let (input_type, output_type) = (message(), message());
        let call =
            MethodDescriptorProto { name: Some("Call".to_owned()), input_type, output_type, ..Default::default() };
        let service =
            ServiceDescriptorProto { name: Some(service.to_owned()), method: vec![call], ..Default::default() };
        FileDescriptorProto {
            name: Some(format!("{package}.proto")),
            package: Some(package.to_owned()),
            message_type: vec![DescriptorProto { name: Some("Nothing".to_owned()), ..Default::default() }],
            service: vec![service],
            syntax: Some("proto3".to_owned()),
            ..Default::default()
        }
    });
    FileDescriptorSet { file: file.collect() }.encode_to_vec()
});

#[derive(Debug, PartialEq)]
enum Event {
    /// A hop was called, with this budget.
    Called(usize, Option<Duration>),
    /// The handler of a hop was dropped.
    Dropped(usize),
}

/// Calls the next hop; the last hop never answers.
#[derive(Clone)]
struct Hop<const N: usize> {
    next: Option<Channel>,
    events: UnboundedSender<Event>,
}

impl NamedService for Hop<0> {
    const NAME: &'static str = CONTRACTS[0];
}
impl NamedService for Hop<1> {
    const NAME: &'static str = CONTRACTS[1];
}
impl NamedService for Hop<2> {
    const NAME: &'static str = CONTRACTS[2];
}
impl NamedService for Hop<3> {
    const NAME: &'static str = CONTRACTS[3];
}

impl<const N: usize> tower::Service<Request<Body>> for Hop<N> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let (next, events) = (self.next.clone(), self.events.clone());
        Box::pin(async move {
            events.send(Event::Called(N, Context::current().remaining())).unwrap();
            let _working = Working(N, events);
            match next {
                Some(mut next) => next.call(request(N + 1, None)).await,
                None => std::future::pending().await,
            }
        })
    }
}

struct Working(usize, UnboundedSender<Event>);

impl Drop for Working {
    fn drop(&mut self) {
        let _ = self.1.send(Event::Dropped(self.0));
    }
}

fn request(hop: usize, timeout: Option<&'static str>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = format!("http://mesh/{}/Call", CONTRACTS[hop]).parse().unwrap();
    if let Some(timeout) = timeout {
        request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
    }
    request
}

fn hop<const N: usize>(name: &'static str, next: Option<&'static str>, events: &UnboundedSender<Event>) -> Service
where
    Hop<N>: NamedService,
{
    let events = events.clone();
    let service = next
        .into_iter()
        .fold(Service::new(name, &DESCRIPTORS), |service, _| service.calls(CONTRACTS[N + 1], &["Call"]));
    service.serves(move |resources| Hop::<N> { next: next.map(|next| resources.channel(next)), events })
}

async fn four_hops() -> (Mesh, UnboundedReceiver<Event>) {
    let (sender, events) = unbounded_channel();
    let one = hop::<0>("one", Some("two"), &sender);
    let two = hop::<1>("two", Some("three"), &sender);
    let three = hop::<2>("three", Some("four"), &sender);
    let four = hop::<3>("four", None, &sender);
    (Mesh::start([one, two, three, four]).await, events)
}

async fn next(events: &mut UnboundedReceiver<Event>) -> Event {
    events.recv().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn budget_is_reduced_at_each_hop_and_ends_all_hops() {
    let (mesh, mut events) = four_hops().await;
    let start = Instant::now();
    let answer = mesh.channel("one").call(request(0, Some("2S"))).await.unwrap();
    // Each hop keeps a margin, so that the answer of the last hop arrives before the deadline of the first.
    assert!(start.elapsed() > Duration::from_millis(1900) && start.elapsed() < Duration::from_secs(2));
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    for (hop, budget) in [2000, 1995, 1990, 1985].into_iter().enumerate() {
        assert_eq!(next(&mut events).await, Event::Called(hop, Some(Duration::from_millis(budget))));
    }
    for hop in [3, 2, 1, 0] {
        assert_eq!(next(&mut events).await, Event::Dropped(hop));
    }
}

#[tokio::test]
async fn cancellation_ends_all_hops() {
    let (mesh, mut events) = four_hops().await;
    let mut channel = mesh.channel("one");
    let calling = tokio::spawn(async move { channel.call(request(0, None)).await });
    while !matches!(next(&mut events).await, Event::Called(3, Some(_))) {}
    calling.abort();
    let mut dropped = Vec::new();
    while dropped.len() < 4 {
        dropped.push(next(&mut events).await);
    }
    assert!(dropped.contains(&Event::Dropped(0)) && dropped.contains(&Event::Dropped(3)), "{dropped:?}");
}

#[tokio::test]
#[cfg_attr(not(debug_assertions), ignore = "such a build makes the call")]
async fn undeclared_call_fails() {
    let (sender, mut events) = unbounded_channel();
    // It calls `three` as if that were `two`.
    let mesh = Mesh::start([hop::<0>("one", Some("three"), &sender), hop::<2>("three", None, &sender)]).await;
    let answer = mesh.channel("one").call(request(0, Some("2S"))).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(peer::reason(&status).as_deref(), Some("PEER_FAILED"), "{status:?}");
    assert!(matches!(next(&mut events).await, Event::Called(0, _)));
    assert_eq!(next(&mut events).await, Event::Dropped(0), "nothing was sent");
}
