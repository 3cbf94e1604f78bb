//! The gateway: the same behaviour in front of services in processes of their own.

use harness::film::create as create_by_grpc;
use harness::{Curl, Grpcurl, Process, Session, eventually, uuid};
use serde_json::json;

use super::{keeps_its_contract, reason, streams};

/// A catalog, an artwork and a gateway that knows their addresses.
struct System {
    catalog: Process,
    artwork: Process,
    gateway: Process,
}

fn system() -> Option<System> {
    if !Curl::installed() || !Grpcurl::installed() {
        return None;
    }
    let catalog = Process::start("catalog", &[]);
    let address = catalog.address.to_string();
    let registry = ("MESH__REGISTRY", "static");
    let artwork = Process::start("artwork", &[registry, ("MESH__STATIC__CATALOG", &address)]);
    let peers = [("MESH__STATIC__CATALOG", &*address), ("MESH__STATIC__ARTWORK", &*artwork.address.to_string())];
    let gateway = Process::start("gateway", &[&[registry, ("MESH__LISTEN", "127.0.0.1:0")], &peers[..]].concat());
    Some(System { catalog, artwork, gateway })
}

#[test]
fn gateway_serves_what_the_monolith_serves() {
    let Some(system) = system() else { return };
    keeps_its_contract(&system.gateway.curl());
    streams::follow_and_resume(&system.gateway.curl());
    crate::catalog::keeps_its_contract(&system.gateway.grpcurl());
    crate::artwork::renders_in_every_size(&system.gateway.grpcurl(), &system.gateway.grpcurl());
    let listed = system.gateway.grpcurl().run(&[], &["list"]).text();
    for contract in ["catalog.v1.CatalogService", "artwork.v1.ArtworkService", "google.longrunning.Operations"] {
        assert!(listed.contains(contract), "{contract} is not in {listed}");
    }
    assert!(system.gateway.http("/readyz").contains("200"));
}

#[test]
fn gateway_passes_failures_on_as_they_are() {
    let Some(System { catalog, artwork, gateway }) = system() else { return };
    let (curl, grpcurl) = (gateway.curl(), gateway.grpcurl());
    let missing = json!({"title_id": uuid()});
    let direct = catalog.grpcurl().call("catalog.v1.CatalogService/GetTitle", &missing);
    let passed = grpcurl.call("catalog.v1.CatalogService/GetTitle", &missing);
    assert_eq!((passed.failure(), passed.message()), (direct.failure(), direct.message()));
    let over_http = curl.get(&format!("/v1/titles/{}", missing["title_id"].as_str().unwrap()));
    assert_eq!((over_http.status, reason(&over_http.json())), (404, "TITLE_NOT_FOUND".to_owned()));

    for name in ["services/artwork", "services/nobody/operations/1", "artwork", ""] {
        let failure = grpcurl.call("google.longrunning.Operations/GetOperation", &json!({"name": name})).failure();
        let expected = if name.starts_with("services/nobody") { "NotFound" } else { "InvalidArgument" };
        assert_eq!(failure.0, expected, "{name}");
    }
    // As in a process with all services.
    for (path, expected) in [
        ("services/nobody/operations/1", "OPERATION_NOT_FOUND"),
        ("services/nobody/operations", "SERVICE_NOT_FOUND"),
        ("services/catalog/operations", "SERVICE_NOT_FOUND"),
    ] {
        let page = curl.get(&format!("/v1/{path}"));
        assert_eq!((page.status, reason(&page.json()).as_str()), (404, expected), "{path}");
    }
    create_by_grpc(&grpcurl, "Metropolis");
    let address = artwork.address.to_string();
    drop(artwork);
    let down = curl.get(&format!("/v1/services/artwork/operations/{}", uuid()));
    assert_eq!(down.status, 503, "{down:?}");
    assert!(!down.text().contains(&address), "the answer names no host: {}", down.text());
    assert_eq!(curl.get("/v1/titles").status, 200, "the others are served");
}

#[test]
fn gateway_retries_only_what_was_not_sent() {
    let Some(System { catalog, gateway, .. }) = system() else { return };
    let calls = |process: &Process| {
        let metrics = process.http("/metrics");
        let line = metrics.lines().find(|line| {
            line.starts_with("grpc_server_handled_total") && line.contains("GetTitle\"") && line.contains("NotFound")
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    let before = calls(&catalog);
    gateway.curl().get(&format!("/v1/titles/{}", uuid()));
    eventually("the call in the metrics", || (calls(&catalog) == before + 1).then_some(()));
}

/// A gateway passes on calls of others, whose cause is not to be trusted.
#[test]
fn gateway_drops_the_cause_of_its_callers() {
    let Some(System { catalog, gateway, .. }) = system() else { return };
    let cause = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b700f067aa0ba902b7-3";
    let causation = "00f067aa-0ba9-02b7-00f0-67aa0ba902b7";
    let create = |process: &Process| {
        let request = json!({"request_id": uuid(), "name": "Metropolis", "year": 1927}).to_string();
        let (header, method) = (format!("mesh-cause: {cause}"), "catalog.v1.CatalogService/CreateTitle");
        process.grpcurl().run(&["-H", &header, "-d", &request], &[method]).json();
    };
    create(&catalog);
    create(&gateway);
    let database = catalog.working_folder().join("data/catalog.db");
    let mut database = Session::open(&format!("sqlite://{}", database.display()));
    let mut caused = |by: &str| database.count(&format!("SELECT count(*) FROM events WHERE causation = '{by}'"));
    assert_eq!([caused(causation), caused("")], [1, 1], "the catalog takes it, and the gateway drops it");
}

/// All callers of a gateway are outside of the mesh, also on the port that a service would share with the mesh.
#[test]
fn gateway_takes_one_token_a_call() {
    let Some(system) = system() else { return };
    let call = |tokens: &[&str]| {
        let headers: Vec<_> = tokens.iter().map(|token| format!("authorization: {token}")).collect();
        let headers = headers.iter().flat_map(|header| ["-rpc-header", header]);
        let arguments: Vec<_> = headers.chain(["-d", "{}"]).collect();
        system.gateway.grpcurl().run(&arguments, &["catalog.v1.CatalogService/ListTitles"])
    };
    assert!(call(&["Bearer a.b.c"]).json().is_object());
    let (code, reason) = call(&["Bearer a.b.c", "Bearer d.e.f"]).failure();
    assert_eq!((code.as_str(), reason.as_str()), ("InvalidArgument", "REPEATED_HEADER"));
}
