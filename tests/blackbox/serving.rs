//! What every process offers: reflection, health, pages for operators, deadlines.

use serde_json::json;

use crate::catalog::{create, failure};
use crate::harness::postgres::Postgres;
use crate::harness::{Grpcurl, Process, RawCall, eventually, uuid};

#[test]
fn reflection_lists_what_is_served_and_describes_it_in_the_words_of_the_contract() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let listed = grpcurl.run(&[], &["list"]).text();
    for service in ["catalog.v1.CatalogService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"] {
        assert!(listed.lines().any(|line| line == service), "{service} is not in {listed}");
    }
    for service in listed.lines() {
        assert!(grpcurl.run(&[], &["describe", service]).text().contains("rpc "), "{service}");
    }

    let method = grpcurl.run(&[], &["describe", "catalog.v1.CatalogService.GetTitle"]).text();
    assert!(method.contains("// Gives one title."), "comments: {method}");
    assert!(method.contains("idempotency_level = NO_SIDE_EFFECTS"), "method options: {method}");
    let message = grpcurl.run(&[], &["describe", "catalog.v1.Title"]).text();
    assert!(message.contains("field_behavior) = OUTPUT_ONLY"), "custom options: {message}");
}

#[test]
fn health_and_the_pages_say_what_is_so() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let check = |service: &str| grpcurl.call("grpc.health.v1.Health/Check", &json!({"service": service}));
    for service in ["", "catalog.v1.CatalogService"] {
        assert_eq!(check(service).json()["status"], "SERVING", "{service}");
    }
    assert_eq!(check("made.up.Service").failure().0, "NotFound");

    create(&grpcurl, "Metropolis");
    failure(&grpcurl, "GetTitle", &json!({"title_id": uuid()}));
    assert!(process.http("/healthz").starts_with("HTTP/1.1 200"));
    let ready = process.http("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("catalog: ready"), "{ready}");
    assert!(process.http("/").starts_with("HTTP/1.1 404"));
    let metrics = process.http("/metrics");
    for line in [
        r#"grpc_server_handled_total{grpc_service="catalog.v1.CatalogService",grpc_method="CreateTitle",grpc_code="OK"} 1"#,
        r#"grpc_server_handled_total{grpc_service="catalog.v1.CatalogService",grpc_method="GetTitle",grpc_code="NotFound"} 1"#,
        r#"grpc_server_handling_seconds_count{grpc_service="catalog.v1.CatalogService",grpc_method="CreateTitle"} 1"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[test]
fn the_pages_can_have_a_port_of_their_own() {
    let process = Process::start("monolith", &[("MESH__ADMIN__LISTEN", "127.0.0.1:0")]);
    assert!(process.http("/metrics").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_method_that_nobody_serves_is_no_new_label() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let proto = "syntax = \"proto3\"; package made.up; service S { rpc M(E) returns (E); } message E {}";
    std::fs::write(process.folder.path().join("made_up.proto"), proto).expect("a file");
    let folder = process.folder.path().display().to_string();
    let answer = process.grpcurl().run(&["-import-path", &folder, "-proto", "made_up.proto"], &["made.up.S/M"]);
    assert_eq!(answer.failure().0, "Unimplemented");
    let metrics = process.http("/metrics");
    assert!(metrics.contains(r#"grpc_service="unknown""#) && !metrics.contains("made.up"), "{metrics}");
}

#[test]
fn the_server_itself_ends_a_call_at_its_deadline() {
    let process = Process::start("monolith", &[]);
    let watch = "/grpc.health.v1.Health/Watch";
    let start = std::time::Instant::now();
    let ended = RawCall::begin(process.address, watch, &[("grpc-timeout", "300m")]).finish(b"");
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");
    assert!(start.elapsed() >= std::time::Duration::from_millis(300));
    assert!(!ended.body.is_empty(), "what was there before the deadline was delivered");

    let malformed = RawCall::begin(process.address, watch, &[("grpc-timeout", "soon")]).finish(b"");
    assert_eq!(malformed.code, "3", "INVALID_ARGUMENT");
}

#[test]
fn what_is_no_message_is_the_callers_fault() {
    let process = Process::start("monolith", &[]);
    let garbage = RawCall::begin(process.address, "/catalog.v1.CatalogService/GetTitle", &[]).finish(&[0xff; 9]);
    assert_eq!(garbage.code, "3", "INVALID_ARGUMENT");
    assert!(!process.log().contains("ERROR"), "and no alarm: {}", process.log());
}

#[test]
fn grpc_over_http_1_is_told_so() {
    let process = Process::start("monolith", &[]);
    let answer = process.http_with("/catalog.v1.CatalogService/GetTitle", "content-type: application/grpc\r\n");
    assert!(answer.starts_with("HTTP/1.1 505") && answer.contains("HTTP/2"), "{answer}");
}

#[test]
fn readiness_follows_the_database() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(mut postgres) = Postgres::start() else { return };
    let url = postgres.database("catalog");
    let process = Process::start("monolith", &[("MESH__SERVICES__CATALOG__DATABASE_URL", &url)]);
    let grpcurl = process.grpcurl();
    let title = create(&grpcurl, "Metropolis");
    let get = json!({"title_id": title["titleId"]});
    let status = |service: &str| {
        let answer = grpcurl.call("grpc.health.v1.Health/Check", &json!({"service": service}));
        answer.json()["status"].as_str().expect("a status").to_owned()
    };

    postgres.stop();
    for service in ["catalog.v1.CatalogService", ""] {
        eventually("not serving", || (status(service) == "NOT_SERVING").then_some(()));
    }
    assert!(process.http("/readyz").starts_with("HTTP/1.1 503"));
    assert!(process.http("/healthz").starts_with("HTTP/1.1 200"), "the process itself lives");
    let answer = grpcurl.call("catalog.v1.CatalogService/GetTitle", &get);
    assert_eq!(answer.failure(), ("Unavailable".to_owned(), "DATABASE_UNAVAILABLE".to_owned()));
    assert!(!answer.message().contains("127.0.0.1"), "internals: {}", answer.message());

    postgres.restart();
    for service in ["catalog.v1.CatalogService", ""] {
        eventually("serving again", || (status(service) == "SERVING").then_some(()));
    }
    assert_eq!(grpcurl.call("catalog.v1.CatalogService/GetTitle", &get).json()["title"], title);
}
