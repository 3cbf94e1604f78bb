//! The same behaviour in every topology.

use std::time::{Duration, Instant};

use contracts::artwork::v1::RenderArtworkRequest;
use harness::film::{small_picture, tiny_picture};
use harness::{Consul, Grpcurl, Postgres, Process, RawCall, Secured, Session, eventually, uuid};
use prost::Message as _;
use serde_json::json;

use crate::{artwork, catalog};

/// The contracts of both services, at these addresses.
fn suite(catalog: &Grpcurl, artwork: &Grpcurl) {
    catalog::keeps_its_contract(catalog);
    artwork::renders_in_every_size(catalog, artwork);
}

fn artwork_beside(catalog: &str) -> Process {
    Process::start("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", catalog)])
}

#[test]
fn suite_passes_in_one_process() {
    if Grpcurl::installed() {
        let monolith = Process::start("monolith", &[]);
        suite(&monolith.grpcurl(), &monolith.grpcurl());
    }
}

#[test]
fn suite_passes_in_two_processes_with_static_addresses() {
    if Grpcurl::installed() {
        let catalog = Process::start("catalog", &[]);
        let artwork = artwork_beside(&catalog.address.to_string());
        suite(&catalog.grpcurl(), &artwork.grpcurl());
    }
}

/// A service as the app of a sidecar.
fn behind_a_sidecar(service: &str, environment: &[(&str, &str)]) -> Process {
    let program = harness::command(service).get_program().display().to_string();
    // It calls others through its sidecar, whatever they are.
    let app =
        format!("MESH__REGISTRY=static MESH__STATIC__CATALOG=$SIDECAR_OUTBOUND exec {program} --listen $SIDECAR_APP");
    Process::start_sidecar(service, environment, Some(&app))
}

#[test]
fn suite_passes_behind_sidecars() {
    if Grpcurl::installed() {
        let catalog = behind_a_sidecar("catalog", &[]);
        let at = catalog.address.to_string();
        let artwork = behind_a_sidecar("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &at)]);
        suite(&catalog.grpcurl(), &artwork.grpcurl());
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn suite_passes_in_two_processes_with_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let registry = [("MESH__REGISTRY", &*consul.registry())];
    let catalog = Process::start("catalog", &registry);
    consul.passing("catalog", 1);
    let artwork = Process::start("artwork", &registry);
    suite(&catalog.grpcurl(), &artwork.grpcurl());
}

/// The suite, with a client that has a certificate of the mesh and the token of a user.
fn secured_suite(mesh: &Secured, catalog: &Process, artwork: &Process) {
    let alice = mesh.token("alice", &["catalog.write", "artwork.write"]);
    suite(&mesh.grpcurl(catalog, &alice), &mesh.grpcurl(artwork, &alice));

    // Both sides ask for what the client has shown.
    let title = json!({"request_id": uuid(), "name": "Metropolis", "year": 1927});
    let create = |grpcurl: Grpcurl| grpcurl.call("catalog.v1.CatalogService/CreateTitle", &title);
    assert!(create(catalog.grpcurl()).failed(), "a client without a certificate");
    let without = mesh.grpcurl(catalog, &mesh.token("alice", &["artwork.write"]));
    assert_eq!(create(without).failure(), ("PermissionDenied".to_owned(), "SCOPE_MISSING".to_owned()));
}

#[test]
fn suite_passes_with_tls_and_tokens_with_static_addresses() {
    if Grpcurl::installed() {
        let mesh = Secured::new(&["catalog", "artwork"]);
        let catalog = mesh.start("catalog", &[]);
        let at = catalog.address.to_string();
        let artwork = mesh.start("artwork", &[("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &at)]);
        secured_suite(&mesh, &catalog, &artwork);
    }
}

#[test]
#[ignore = "needs Consul: .ci/full"]
fn suite_passes_with_tls_and_tokens_with_consul() {
    let Some(consul) = Consul::start().filter(|_| Grpcurl::installed()) else { return };
    let mesh = Secured::new(&["catalog", "artwork"]);
    let catalog = mesh.start_in_consul("catalog", &consul);
    consul.passing("catalog", 1);
    let artwork = mesh.start_in_consul("artwork", &consul);
    secured_suite(&mesh, &catalog, &artwork);
}

/// The last hop ends a call at its deadline, and when its caller disconnects.
fn ends_abandoned_calls(catalog: &Process, artwork: &Process, database: &str) {
    // The lock blocks every query of titles.
    let mut holder = Session::open(database);
    holder.execute("BEGIN; LOCK TABLE titles");
    let render = |headers: &[(&str, &str)]| {
        let request = RenderArtworkRequest { request_id: uuid(), title_id: uuid(), image: small_picture() };
        let mut call = RawCall::begin(artwork.address, "/artwork.v1.ArtworkService/RenderArtwork", headers);
        call.send(&request.encode_to_vec());
        call
    };
    let in_flight = |calls: usize| {
        let line = format!(r#"grpc_method="GetTitle"}} {calls}"#);
        eventually("the number of calls in flight", || catalog.http("/metrics").contains(&line).then_some(()));
    };
    assert_eq!(render(&[("grpc-timeout", "700m")]).ended().code, "4", "DEADLINE_EXCEEDED");
    in_flight(0);

    let call = render(&[("grpc-timeout", "30S")]);
    in_flight(1);
    let left = Instant::now();
    drop(call);
    in_flight(0);
    assert!(left.elapsed() < Duration::from_secs(5), "only its own deadline ended the call: {:?}", left.elapsed());
    holder.execute("ROLLBACK");
}

const DATABASE_URL: &str = "MESH__SERVICES__CATALOG__DATABASE_URL";

/// The URL of a new database for the catalog. Without an installed Postgres it prints a note and returns `None`.
fn database() -> Option<String> {
    Some(Postgres::shared()?.database(&format!("catalog_{}", uuid().replace('-', ""))))
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn abandoned_calls_end_in_one_process() {
    let Some(url) = database() else { return };
    let monolith = Process::start("monolith", &[(DATABASE_URL, &url)]);
    ends_abandoned_calls(&monolith, &monolith, &url);
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn abandoned_calls_end_in_two_processes_with_static_addresses() {
    let Some(url) = database() else { return };
    let catalog = Process::start("catalog", &[(DATABASE_URL, &url)]);
    ends_abandoned_calls(&catalog, &artwork_beside(&catalog.address.to_string()), &url);
}

#[test]
#[ignore = "needs Postgres and Consul: .ci/full"]
fn abandoned_calls_end_in_two_processes_with_consul() {
    let Some(url) = database() else { return };
    let Some(consul) = Consul::start() else { return };
    let registry = consul.registry();
    let registry = ("MESH__REGISTRY", &*registry);
    let catalog = Process::start("catalog", &[registry, (DATABASE_URL, &url)]);
    consul.passing("catalog", 1);
    ends_abandoned_calls(&catalog, &Process::start("artwork", &[registry]), &url);
}

#[test]
fn peer_calls_recover_after_a_late_start_and_a_restart() {
    if !Grpcurl::installed() {
        return;
    }
    let catalog = Process::start("catalog", &[]);
    let address = catalog.address.to_string();
    let folder = catalog.kill();
    let artwork = artwork_beside(&address);
    let request = json!({"request_id": uuid(), "title_id": uuid(), "image": tiny_picture()});
    let render = || artwork.grpcurl().call_with_input("artwork.v1.ArtworkService/RenderArtwork", &request).failure();
    assert_eq!(render(), ("Unavailable".to_owned(), "ENDPOINT_UNREACHABLE".to_owned()));

    let catalog = Process::start_in(folder, "catalog", &[("MESH__LISTEN", &address)]);
    let found = || (render() == ("NotFound".to_owned(), "TITLE_NOT_FOUND".to_owned())).then_some(());
    eventually("the catalog answers", found);
    let folder = catalog.kill();
    assert_eq!(render().0, "Unavailable");
    let _catalog = Process::start_in(folder, "catalog", &[("MESH__LISTEN", &address)]);
    eventually("the catalog answers again", found);
}

#[test]
fn silent_peer_fails_the_call_at_its_deadline() {
    // The peer accepts connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let artwork = artwork_beside(&silent.local_addr().expect("an address").to_string());
    let request = RenderArtworkRequest { request_id: uuid(), title_id: uuid(), image: small_picture() };
    let start = Instant::now();
    let call = RawCall::begin(artwork.address, "/artwork.v1.ArtworkService/RenderArtwork", &[("grpc-timeout", "700m")]);
    let ended = call.finish(&request.encode_to_vec());
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
