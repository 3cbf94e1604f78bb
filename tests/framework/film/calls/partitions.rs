//! The network between a service and its peer fails in several ways and recovers. Partitions between a service and
//! Consul are in `film/consul/outages.rs`.

use std::time::{Duration, Instant};

use contracts::artwork::v1::RenderArtworkRequest;
use harness::film::small_picture;
use harness::{Grpcurl, Process, Proxy, RawCall, eventually, uuid};
use prost::Message as _;

use super::hops;
use super::load::{Kind, Load, once};
use crate::film::consul::{answered, ask};

/// The limit for calls to recover after the network does, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Artwork, the catalog, and the network between them. Without grpcurl it prints a note and returns `None`.
fn pair() -> Option<(Process, Process, Proxy)> {
    if !Grpcurl::installed() {
        return None;
    }
    let catalog = Process::start("catalog", &[]);
    let proxy = Proxy::to(catalog.address);
    let address = proxy.address.to_string();
    let artwork = Process::start("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &address)]);
    assert_eq!(ask(&artwork), answered());
    Some((artwork, catalog, proxy))
}

/// The code of the same call with a deadline of one second.
fn ask_within_a_second(artwork: &Process) -> String {
    let request = RenderArtworkRequest { request_id: uuid(), title_id: uuid(), image: small_picture() };
    let call = RawCall::begin(artwork.address, "/artwork.v1.ArtworkService/RenderArtwork", &[("grpc-timeout", "1S")]);
    call.finish(&request.encode_to_vec()).code
}

fn recovers(artwork: &Process) {
    let start = Instant::now();
    eventually("the catalog answers again", || (ask(artwork) == answered()).then_some(()));
    println!("recovered after {:?}", start.elapsed());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    for _ in 0..5 {
        assert_eq!(ask(artwork), answered());
    }
}

#[test]
fn refused_connection_recovers() {
    let Some((artwork, _catalog, proxy)) = pair() else { return };
    proxy.refuse();
    for _ in 0..3 {
        assert_eq!(ask(&artwork), ("Unavailable".to_owned(), "ENDPOINT_UNREACHABLE".to_owned()));
    }
    proxy.heal();
    recovers(&artwork);
}

#[test]
fn stalled_connection_recovers() {
    let Some((artwork, _catalog, proxy)) = pair() else { return };
    proxy.stall();
    for _ in 0..3 {
        assert_eq!(ask_within_a_second(&artwork), "4", "DEADLINE_EXCEEDED");
    }
    proxy.heal();
    recovers(&artwork);
}

#[test]
fn forgotten_connection_is_replaced() {
    let well = hops::answering("0");
    let proxy = Proxy::to(well.address);
    let caller = hops::to_with(&[proxy.address], &[("MESH__CALL_DEADLINE", "500ms")]);
    once(caller.address, Kind::Create).expect("an answer");
    proxy.forget();
    // Only callers find out.
    let load = Load::begin(caller.address, 20, &[Kind::Create]);
    let start = Instant::now();
    eventually("the peer is called again", || (hops::attempts(&well, "CreateTitle") > 1).then_some(()));
    println!("recovered after {:?}", start.elapsed());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop(load.end());
    let load = Load::begin(caller.address, 20, &[Kind::Create]);
    load.wait_for_calls(20);
    load.end_without_failures();
}
