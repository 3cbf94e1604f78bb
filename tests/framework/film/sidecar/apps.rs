//! Apps that fail, each in its way, and what the mesh is told of it.

use std::time::{Duration, Instant};

use contracts::artwork::v1::GetArtworkRequest;
use contracts::artwork::v1::artwork_service_client::ArtworkServiceClient;
use contracts::catalog::v1::GetTitleRequest;
use contracts::catalog::v1::catalog_service_client::CatalogServiceClient;
use harness::{Grpcurl, Process, RawCall, eventually};
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{app, beside, catalog, exchange, failure};
use crate::film::calls::hops;

const TCP: (&str, &str) = ("MESH__SIDECAR__HEALTH", "tcp");
const GET: &str = "/catalog.v1.CatalogService/GetTitle";

#[test]
fn app_that_speaks_no_grpc_cannot_be_reached() {
    for (name, answer) in
        [("HTTP/1.1", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), ("garbage", "\u{7}garbage\r\n")]
    {
        let (address, _) = app(move |_| answer.as_bytes().to_vec());
        let sidecar = beside(address, "catalog", &[TCP]);
        assert_eq!(failure(sidecar.address), (Code::Unavailable, "APP_UNREACHABLE".to_owned()), "{name}");
        assert!(sidecar.log().contains("no connection to a peer"), "{name}: {}", sidecar.log());
    }
}

#[test]
fn app_that_hangs_costs_the_deadline_and_one_that_breaks_off_is_lost() {
    let silent = hops::answering(hops::NEVER);
    let sidecar = beside(silent.address, "catalog", &[]);
    let start = Instant::now();
    // tonic's client has a timer of its own, and would be the first.
    let ended = RawCall::begin(sidecar.address, GET, &[("grpc-timeout", "2S")]).finish(&[]);
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let hops::Event::Begun(Some(left)) = hops::seen(&silent)[0].event else { panic!("no deadline reached the app") };
    assert!(left < Duration::from_secs(2), "the deadline shrinks on the way: {left:?}");

    let call = RawCall::begin(sidecar.address, GET, &[]);
    let calling = std::thread::spawn(move || call.finish(&[]));
    eventually("the app is called", || (hops::attempts(&silent, "GetTitle") == 2).then_some(()));
    drop(silent);
    assert_eq!(calling.join().expect("it ends").code, "14", "UNAVAILABLE");
    assert!(sidecar.log().contains("broke off"), "{}", sidecar.log());
    // Nothing was sent to an app that is gone.
    assert_eq!(failure(sidecar.address), (Code::Unavailable, "APP_UNREACHABLE".to_owned()));
    let admin = sidecar.listener("admin");
    let ready = || exchange(admin, b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    eventually("the health says so", || ready().contains("catalog: not ready: the app at").then_some(()));
}

fn sidecar_health(sidecar: &Process) -> String {
    sidecar.grpcurl().call("grpc.health.v1.Health/Check", &json!({"service": "catalog.v1.CatalogService"})).text()
}

#[test]
fn app_that_returns_is_healthy_again() {
    if !Grpcurl::installed() {
        return;
    }
    let app = Process::start("catalog", &[]);
    let at = app.address.to_string();
    let sidecar = beside(app.address, "catalog", &[]);
    assert!(sidecar_health(&sidecar).contains("\"SERVING\""));
    let folder = app.kill();
    eventually("it is not ready", || sidecar_health(&sidecar).contains("NOT_SERVING").then_some(()));
    let _app = Process::start_in(folder, "catalog", &[("MESH__LISTEN", &at)]);
    eventually("it is ready again", || sidecar_health(&sidecar).contains("\"SERVING\"").then_some(()));
    assert!(!sidecar.grpcurl().call("catalog.v1.CatalogService/ListTitles", &json!({})).failed());
}

#[test]
fn app_gets_only_methods_of_its_contracts() {
    let hop = hops::answering("0");
    let sidecar = beside(hop.address, "catalog", &[]);
    let call = |path: &str| RawCall::begin(sidecar.address, path, &[]).finish(&[]).code;
    assert_eq!(call("/made.up.v1.Service/Method"), "12", "UNIMPLEMENTED");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let other = runtime.block_on(async {
        let to = tonic::transport::Endpoint::from_shared(format!("http://{}", sidecar.address)).expect("an address");
        let request = GetArtworkRequest { title_id: harness::uuid() };
        ArtworkServiceClient::new(to.connect_lazy()).get_artwork(request).await.expect_err("it is of another service")
    });
    let reason = other.get_details_error_info().map(|info| info.reason);
    assert_eq!((other.code(), reason.as_deref()), (Code::Unimplemented, Some("UNKNOWN_SERVICE")));
    assert!(hops::seen(&hop).is_empty(), "the app has seen {:?}", hops::seen(&hop));
}

#[test]
fn peer_that_nobody_knows_is_refused_by_name() {
    let sidecar = Process::start_sidecar("catalog", &[], Some(&catalog()));
    let outbound = sidecar.listener("outbound");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let get = |to: String, host: Option<String>| {
        runtime.block_on(async {
            let mut to = tonic::transport::Endpoint::from_shared(to).expect("an address");
            if let Some(host) = host {
                to = to.origin(host.parse().expect("an address"));
            }
            let mut client = CatalogServiceClient::new(to.connect_lazy());
            client.get_title(GetTitleRequest { title_id: harness::uuid() }).await.expect_err("there is none")
        })
    };
    // The registry of this sidecar is `local`: it finds no catalog, not even its own.
    let reason = |status: tonic::Status| status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    assert_eq!(reason(get(format!("http://{outbound}"), None)), "NO_ENDPOINTS");
    assert_eq!(reason(get(format!("http://{outbound}"), Some("http://catalog:80".to_owned()))), "NO_ENDPOINTS");
    let unknown = RawCall::begin(outbound, "/made.up.v1.Service/Method", &[]).finish(&[]);
    assert_eq!(unknown.code, "12", "UNIMPLEMENTED");
    let plain = exchange(outbound, b"GET / HTTP/1.1\r\nHost: nobody\r\nConnection: close\r\n\r\n");
    assert!(plain.starts_with("HTTP/1.1 421") && plain.contains("there is no service `nobody`"), "{plain}");
}

#[test]
fn call_that_the_sidecar_refuses_is_no_failure_of_the_app() {
    let hop = hops::answering("1");
    let sidecar = beside(hop.address, "catalog", &[("MESH__LIMITS__IN_FLIGHT", "1")]);
    let calls: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn({
                let at = sidecar.address;
                move || RawCall::begin(at, GET, &[]).finish(&[]).code
            })
        })
        .collect();
    let codes: Vec<_> = calls.into_iter().map(|call| call.join().expect("it ends")).collect();
    assert!(codes.contains(&"8".to_owned()) && !codes.contains(&"14".to_owned()), "RESOURCE_EXHAUSTED: {codes:?}");
    assert!(!sidecar.log().contains("broke off"), "{}", sidecar.log());
}
