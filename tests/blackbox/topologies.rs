//! The same behaviour, wherever the services run.

use contracts::artwork::v1::RenderArtworkRequest;
use prost::Message as _;
use serde_json::json;

use crate::harness::{Consul, Grpcurl, Process, RawCall, eventually, uuid};
use crate::{artwork, catalog};

/// What the system promises, to whoever asks its services at these addresses.
fn suite(catalog: &Grpcurl, artwork: &Grpcurl) {
    catalog::keeps_its_promises(catalog);
    artwork::tells_its_story(catalog, artwork);
}

fn artwork_beside(catalog: &str) -> Process {
    Process::start("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", catalog)])
}

#[test]
fn in_one_process() {
    if Grpcurl::installed() {
        let monolith = Process::start("monolith", &[]);
        suite(&monolith.grpcurl(), &monolith.grpcurl());
    }
}

#[test]
fn in_a_process_each_found_by_static_addresses() {
    if Grpcurl::installed() {
        let catalog = Process::start("catalog", &[]);
        let artwork = artwork_beside(&catalog.address.to_string());
        suite(&catalog.grpcurl(), &artwork.grpcurl());
    }
}

#[test]
fn in_a_process_each_found_through_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let registry = [("MESH__REGISTRY", &*consul.registry())];
    let catalog = Process::start("catalog", &registry);
    consul.passing("catalog", 1);
    let artwork = Process::start("artwork", &registry);
    suite(&catalog.grpcurl(), &artwork.grpcurl());
}

#[test]
fn a_peer_may_come_late_and_go_for_a_while() {
    if !Grpcurl::installed() {
        return;
    }
    let catalog = Process::start("catalog", &[]);
    let address = catalog.address.to_string();
    let folder = catalog.kill();
    let artwork = artwork_beside(&address);
    let request = json!({"request_id": uuid(), "title_id": uuid(), "image": artwork::tiny_picture()});
    let render = || artwork.grpcurl().call_with_input("artwork.v1.ArtworkService/RenderArtwork", &request).failure();
    assert_eq!(render(), ("Unavailable".to_owned(), "ENDPOINT_UNREACHABLE".to_owned()));

    let catalog = Process::start_in(folder, "catalog", &[("MESH__LISTEN", &address)]);
    let found = || (render() == ("NotFound".to_owned(), "TITLE_NOT_FOUND".to_owned())).then_some(());
    eventually("the catalog is asked", found);
    let folder = catalog.kill();
    assert_eq!(render().0, "Unavailable");
    let _catalog = Process::start_in(folder, "catalog", &[("MESH__LISTEN", &address)]);
    eventually("the catalog is asked again", found);
}

#[test]
fn a_peer_that_never_answers_costs_the_deadline_and_no_more() {
    // It takes connections, and that is all it does.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let artwork = artwork_beside(&silent.local_addr().expect("an address").to_string());
    let request = RenderArtworkRequest { request_id: uuid(), title_id: uuid(), image: artwork::small_picture() };
    let start = std::time::Instant::now();
    let call = RawCall::begin(artwork.address, "/artwork.v1.ArtworkService/RenderArtwork", &[("grpc-timeout", "700m")]);
    let ended = call.finish(&request.encode_to_vec());
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
}
