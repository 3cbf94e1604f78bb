//! The network goes away, in each of its ways, and comes back: between a service and its peer. What a partition from
//! Consul comes to is in tests/blackbox/consul/outages.rs.

use std::time::{Duration, Instant};

use contracts::artwork::v1::RenderArtworkRequest;
use harness::film::small_picture;
use harness::{Grpcurl, Process, Proxy, RawCall, eventually, uuid};
use prost::Message as _;

use super::hops;
use super::load::{Kind, Load, once};
use crate::film::consul::{answered, ask};

/// How long calls may go on to fail on a network that is whole again, on a busy machine.
const SOON: Duration = Duration::from_secs(5);

/// Artwork and the catalog, and the network between them; `None` where there is nothing to ask them with.
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

/// The code of the same call, from a client that cannot wait for long.
fn ask_within_a_second(artwork: &Process) -> String {
    let request = RenderArtworkRequest { request_id: uuid(), title_id: uuid(), image: small_picture() };
    let call = RawCall::begin(artwork.address, "/artwork.v1.ArtworkService/RenderArtwork", &[("grpc-timeout", "1S")]);
    call.finish(&request.encode_to_vec()).code
}

fn recovers(artwork: &Process) {
    let start = Instant::now();
    eventually("the catalog is asked again", || (ask(artwork) == answered()).then_some(()));
    println!("well again after {:?}", start.elapsed());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    for _ in 0..5 {
        assert_eq!(ask(artwork), answered());
    }
}

#[test]
fn a_peer_that_could_not_be_reached_is_called_again() {
    let Some((artwork, _catalog, proxy)) = pair() else { return };
    proxy.refuse();
    for _ in 0..3 {
        assert_eq!(ask(&artwork), ("Unavailable".to_owned(), "ENDPOINT_UNREACHABLE".to_owned()));
    }
    proxy.heal();
    recovers(&artwork);
}

#[test]
fn a_peer_that_was_not_heard_of_is_called_again() {
    let Some((artwork, _catalog, proxy)) = pair() else { return };
    proxy.stall();
    for _ in 0..3 {
        assert_eq!(ask_within_a_second(&artwork), "4", "DEADLINE_EXCEEDED");
    }
    proxy.heal();
    recovers(&artwork);
}

#[test]
fn a_connection_that_the_network_has_forgotten_is_given_up() {
    let well = hops::answering("0");
    let proxy = Proxy::to(well.address);
    let caller = hops::to_with(&[proxy.address], &[("MESH__CALL_DEADLINE", "500ms")]);
    once(caller.address, Kind::Create).expect("an answer");
    proxy.forget();
    // Callers, who are what finds out.
    let load = Load::begin(caller.address, 20, &[Kind::Create]);
    let start = Instant::now();
    eventually("it is called again", || (hops::attempts(&well, "CreateTitle") > 1).then_some(()));
    println!("well again after {:?}", start.elapsed());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    drop(load.end());
    let load = Load::begin(caller.address, 20, &[Kind::Create]);
    load.goes_on(20);
    load.ends_well();
}
