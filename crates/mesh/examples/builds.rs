//! Builds of three services for the tests of releases (tests/framework/releases.rs): each copy of this program is the
//! build that its file name says.
//!
//! `depot-Get-Sum` is the service depot with the methods Get and Sum. `shop-Sum` is the service shop, whose method Ask
//! calls Sum of depot; `shop-Get-Sum-optional` calls Get, and does without Sum if depot lacks it. `front` is a service
//! whose method Ask calls that of shop. A build knows the contracts of its version alone: those methods of depot that
//! it has or calls.

use std::convert::Infallible;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use http::{Request, Response};
use mesh::{Channel, Service};
use prost::Message as _;
use prost_types::method_options::IdempotencyLevel;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, MethodOptions,
    ServiceDescriptorProto,
};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Code, Status};

const DEPOT: &str = "depot.v1.Depot";
const SHOP: &str = "shop.v1.Shop";

fn main() -> ExitCode {
    let program = std::env::current_exe().expect("a program");
    let name = program.file_name().expect("a name").to_string_lossy().into_owned();
    let words: Vec<&'static str> = name.leak().split('-').collect();
    let (service, words) = words.split_first().expect("a service");
    let (optional, methods): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| **word == "optional");
    // The last one is optional.
    let (needed, extra) = methods.split_at(methods.len() - optional.len());
    let service = Service::new(service, descriptors(&methods)).port(50099);
    mesh::run(match service.name() {
        "depot" => service.serves(move |_| Depot(methods)),
        "shop" => {
            let service = service.calls(DEPOT, needed);
            let service = if extra.is_empty() { service } else { service.calls_if_there(DEPOT, extra) };
            let (needed, extra) = (needed.to_vec(), extra.to_vec());
            service.serves(move |resources| Caller::<Shop>::new(resources.channel("depot"), DEPOT, needed, extra))
        }
        _ => service
            .calls(SHOP, &["Ask"])
            .serves(|resources| Caller::<Front>::new(resources.channel("shop"), SHOP, vec!["Ask"], Vec::new())),
    })
}

/// The contracts, with these methods of depot.
fn descriptors(methods: &[&str]) -> &'static [u8] {
    let file = |package: &str, service: &str, methods: &[&str]| {
        let message = format!(".{package}.v1.Nothing");
        let options = MethodOptions {
            idempotency_level: Some(IdempotencyLevel::NoSideEffects.into()),
            ..MethodOptions::default()
        };
        let method = |name: &&str| MethodDescriptorProto {
            name: Some((*name).to_owned()),
            input_type: Some(message.clone()),
            output_type: Some(message.clone()),
            options: Some(options.clone()),
            ..MethodDescriptorProto::default()
        };
        let method = methods.iter().map(method).collect();
        FileDescriptorProto {
            name: Some(format!("{package}/v1/{package}.proto")),
            package: Some(format!("{package}.v1")),
            message_type: vec![DescriptorProto { name: Some("Nothing".to_owned()), ..DescriptorProto::default() }],
            service: vec![ServiceDescriptorProto { name: Some(service.to_owned()), method, ..Default::default() }],
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        }
    };
    let file = vec![file("depot", "Depot", methods), file("shop", "Shop", &["Ask"]), file("front", "Front", &["Ask"])];
    FileDescriptorSet { file }.encode_to_vec().leak()
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Answers its methods.
#[derive(Clone)]
struct Depot(Vec<&'static str>);

impl NamedService for Depot {
    const NAME: &'static str = DEPOT;
}

impl tower::Service<Request<Body>> for Depot {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Answering {
        let is_served = self.0.iter().any(|method| request.uri().path().ends_with(&format!("/{method}")));
        let status = if is_served { Status::ok("") } else { Status::unimplemented("no such method in this build") };
        Box::pin(async move { Ok(status.into_http()) })
    }
}

trait Named: Clone + Send + Sync + 'static {
    const NAME: &'static str;
}

#[derive(Clone)]
struct Shop;
#[derive(Clone)]
struct Front;

impl Named for Shop {
    const NAME: &'static str = SHOP;
}
impl Named for Front {
    const NAME: &'static str = "front.v1.Front";
}

/// Answers by calls of a peer.
#[derive(Clone)]
struct Caller<N> {
    peer: Channel,
    contract: &'static str,
    needed: Vec<&'static str>,
    /// It does without them.
    extra: Vec<&'static str>,
    _name: std::marker::PhantomData<fn() -> N>,
}

impl<N> Caller<N> {
    fn new(peer: Channel, contract: &'static str, needed: Vec<&'static str>, extra: Vec<&'static str>) -> Self {
        Self { peer, contract, needed, extra, _name: std::marker::PhantomData }
    }
}

impl<N: Named> NamedService for Caller<N> {
    const NAME: &'static str = N::NAME;
}

impl<N: Named> tower::Service<Request<Body>> for Caller<N> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Answering {
        let Self { mut peer, contract, needed, extra, .. } = self.clone();
        Box::pin(async move {
            for method in needed.iter().chain(&extra) {
                let request = Request::post(format!("http://mesh/{contract}/{method}"));
                let request = request.header("content-type", "application/grpc").body(Body::empty());
                let answer = tower::Service::call(&mut peer, request.expect("a request")).await?;
                let failed = Status::from_header_map(answer.headers()).filter(|status| status.code() != Code::Ok);
                let is_missed = failed.as_ref().is_some_and(|status| status.code() == Code::Unimplemented);
                if let Some(failed) = failed
                    && !(is_missed && extra.contains(method))
                {
                    return Ok(failed.into_http());
                }
            }
            Ok(Status::ok("").into_http())
        })
    }
}
