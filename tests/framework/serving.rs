//! What every process serves: reflection, health, admin pages, deadlines.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use harness::{Grpcurl, LIMIT, Process, RawCall, RawConnection, eventually};
use serde_json::json;

#[test]
fn reflection_lists_and_describes_services() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let listed = grpcurl.run(&[], &["list"]).text();
    for service in ["grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"] {
        assert!(listed.lines().any(|line| line == service), "{service} is not in {listed}");
    }
    for service in listed.lines() {
        assert!(grpcurl.run(&[], &["describe", service]).text().contains("rpc "), "{service}");
    }
}

#[test]
fn health_and_admin_pages_report_the_state() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let check = |service: &str| grpcurl.call("grpc.health.v1.Health/Check", &json!({"service": service}));
    assert_eq!(check("").json()["status"], "SERVING");
    assert_eq!(check("made.up.Service").failure().0, "NotFound");

    for page in ["/healthz", "/readyz"] {
        assert!(process.http(page).starts_with("HTTP/1.1 200"), "{page}");
    }
    assert!(process.http("/nothing").starts_with("HTTP/1.1 404"));
    let metrics = process.http("/metrics");
    let ok = r#"grpc_server_handled_total{grpc_service="grpc.health.v1.Health",grpc_method="Check",grpc_code="OK"} 1"#;
    assert!(metrics.contains(ok), "{metrics}");
}

#[test]
fn admin_pages_can_have_their_own_port() {
    let process = Process::start("monolith", &[("MESH__ADMIN__LISTEN", "127.0.0.1:0")]);
    assert!(process.http("/metrics").starts_with("HTTP/1.1 404"));
}

const CHECK: &str = "/grpc.health.v1.Health/Check";

#[test]
fn requests_that_are_no_calls_are_refused_by_http() {
    for edge in ["true", "false"] {
        let process = Process::start("monolith", &[("MESH__EDGE__ENABLED", edge)]);
        let connection = RawConnection::open(process.address);
        for (method, path, content_type, status) in [
            ("POST", CHECK, Some("application/grpc"), 200),
            ("POST", CHECK, Some("application/grpc+proto"), 200),
            ("POST", CHECK, Some("Application/gRPC; charset=utf-8"), 200),
            ("POST", CHECK, Some("application/grpc+json"), 415),
            ("POST", CHECK, Some("application/grpcx"), 415),
            ("POST", CHECK, Some("application/json"), 415),
            ("POST", CHECK, None, 415),
            ("GET", CHECK, None, 405),
            ("GET", CHECK, Some("application/grpc"), 405),
            ("HEAD", CHECK, Some("application/grpc"), 405),
            ("PUT", CHECK, Some("application/grpc"), 405),
            ("DELETE", CHECK, None, 405),
            ("OPTIONS", CHECK, None, 405),
            ("POST", "/made.up.Service/Method", Some("application/json"), 404),
            ("GET", "/grpc.health.v1.Health", None, 404),
        ] {
            let headers: Vec<_> = content_type.map(|it| ("content-type", it)).into_iter().collect();
            let name = format!("{method} {path} of {content_type:?}, edge.enabled {edge}");
            // The edge shows no internal method.
            let is_call = status == 200 || content_type == Some("application/grpc+json");
            let status = if edge == "true" && !is_call { 404 } else { status };
            let reply = connection.ask(method, path, &headers, &[0; 5]);
            assert_eq!(reply.status, status, "{name}: {reply:?}");
            assert_eq!(reply.header("allow"), (status == 405).then_some("POST"), "{name}: {reply:?}");
            let grpc = match (status, content_type) {
                (200, _) => Some("0"),
                // A client of gRPC reads a status.
                (415, Some("application/grpc+json")) => Some("12"),
                _ => None,
            };
            assert_eq!(reply.header("grpc-status"), grpc, "{name}: {reply:?}");
        }
        let status = if edge == "true" { 404 } else { 405 };
        assert!(process.http(CHECK).starts_with(&format!("HTTP/1.1 {status}")), "edge.enabled {edge}");
    }
}

#[test]
fn calls_have_one_message_and_a_method() {
    let process = Process::start("monolith", &[]);
    let connection = RawConnection::open(process.address);
    let refused = |path: &str, body: &[u8]| {
        let reply = connection.ask("POST", path, &[("content-type", "application/grpc")], body);
        assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("12")), "{path}: {reply:?}");
        reply.message()
    };
    assert!(refused(CHECK, &[0; 10]).contains("more than one message"));
    assert!(refused(CHECK, &[0; 6]).contains("more than one message"), "the second one is incomplete");
    assert!(refused(CHECK, &[]).contains("no message"));
    // A stream of answers takes one message, too.
    assert!(refused("/grpc.health.v1.Health/Watch", &[0; 10]).contains("more than one message"));
    let message = refused("/grpc.health.v1.Health/Nothing", &[0; 5]);
    assert!(message.contains("`/grpc.health.v1.Health/Nothing`"), "{message}");
    assert!(refused("/made.up.Service/Nothing", &[0; 5]).contains("`made.up.Service`"));
    let metrics = process.http("/metrics");
    assert!(metrics.contains(r#"grpc_method="Check",grpc_code="Unimplemented"} 3"#), "{metrics}");
}

#[test]
fn unknown_method_adds_no_metric_label() {
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
fn server_ends_a_call_at_its_deadline() {
    let process = Process::start("monolith", &[]);
    let watch = "/grpc.health.v1.Health/Watch";
    let start = std::time::Instant::now();
    let ended = RawCall::begin(process.address, watch, &[("grpc-timeout", "300m")]).finish(b"");
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");
    assert!(start.elapsed() >= std::time::Duration::from_millis(300));
    assert!(!ended.body.is_empty(), "messages from before the deadline are delivered");

    let malformed = RawCall::begin(process.address, watch, &[("grpc-timeout", "soon")]).finish(b"");
    assert_eq!(malformed.code, "3", "INVALID_ARGUMENT");
}

#[test]
fn undecodable_message_is_invalid_argument() {
    let process = Process::start("monolith", &[]);
    let garbage = RawCall::begin(process.address, "/grpc.health.v1.Health/Check", &[]).finish(&[0xff; 9]);
    assert_eq!(garbage.code, "3", "INVALID_ARGUMENT");
    assert!(!process.log().contains("ERROR"), "the log has an error: {}", process.log());
}

#[test]
fn grpc_over_http_1_is_refused() {
    let process = Process::start("monolith", &[]);
    let mut stream = TcpStream::connect(process.address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    let head = format!("POST {CHECK} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let call = format!("{head}content-type: application/grpc\r\ncontent-length: 5\r\n\r\n\0\0\0\0\0");
    stream.write_all(call.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 505") && answer.contains("HTTP/2"), "{answer}");
}

#[test]
fn health_knows_every_service_that_reflection_lists() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    let listed = grpcurl.run(&[], &["list"]).text();
    let all = grpcurl.call("grpc.health.v1.Health/List", &json!({})).json();
    for service in listed.lines().chain([""]) {
        let checked = grpcurl.call("grpc.health.v1.Health/Check", &json!({"service": service})).json();
        assert_eq!(checked["status"], "SERVING", "{service}");
        assert_eq!(all["statuses"][service]["status"], "SERVING", "{service}");
    }
}

#[test]
fn health_watch_of_an_unknown_service_stays_open() {
    let process = Process::start("monolith", &[]);
    let start = std::time::Instant::now();
    // The field `service` with the name `x`.
    let watch = RawCall::begin(process.address, "/grpc.health.v1.Health/Watch", &[("grpc-timeout", "500m")]);
    let ended = watch.finish(&[0x0a, 1, b'x']);
    assert_eq!(ended.body, [0, 0, 0, 0, 2, 8, 3], "SERVICE_UNKNOWN");
    assert!(start.elapsed() >= std::time::Duration::from_millis(500), "the server ended the stream");
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");
}

#[test]
fn health_watch_and_reflection_count_as_streams() {
    let process = Process::start("monolith", &[("MESH__LIMITS__STREAMS", "1")]);
    let open = RawConnection::open(process.address);
    let mut first = open.call("/grpc.health.v1.Health/Watch", &[]);
    first.send(b"");
    let in_flight = r#"grpc_server_in_flight{grpc_service="grpc.health.v1.Health",grpc_method="Watch"} 1"#;
    eventually("the stream is open", || process.http("/metrics").contains(in_flight).then_some(()));
    for path in ["/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"] {
        let refused = open.call(path, &[("grpc-timeout", "10S")]).finish(b"");
        assert_eq!(refused.code, "8", "{path}: RESOURCE_EXHAUSTED");
    }
    for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/List"] {
        assert_eq!(open.call(path, &[]).finish(b"").code, "0", "{path}");
    }
}

#[test]
fn reflection_describes_extensions() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let described = process.grpcurl().run(&[], &["describe", "mesh.options.v1.default_deadline"]).text();
    assert!(described.contains("50001"), "{described}");
    assert!(!format!("{:?}", process.grpcurl().run(&[], &["describe", "made.Up"])).contains("ok: true"));
}

#[test]
fn compression_follows_the_flag_of_the_message() {
    let process = Process::start("monolith", &[]);
    let check = |headers: &[(&str, &str)], flag: u8, message: &[u8]| {
        let mut call = RawCall::begin(process.address, "/grpc.health.v1.Health/Check", headers);
        call.send_flagged(flag, message);
        call.ended().code
    };
    // An empty message in gzip.
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0][..], &[0; 8]].concat();
    assert_eq!(check(&[("grpc-encoding", "gzip")], 1, &gzip), "0");
    for encoding in ["identity", "gzip", "br"] {
        assert_eq!(check(&[("grpc-encoding", encoding)], 0, b""), "0", "{encoding}: the message is not compressed");
    }
    assert_eq!(check(&[("grpc-encoding", "br")], 1, b""), "12", "UNIMPLEMENTED");
    assert_eq!(check(&[], 1, &gzip), "13", "INTERNAL");
    assert_eq!(check(&[("grpc-encoding", "identity")], 1, &gzip), "13", "INTERNAL");
    assert_eq!(check(&[("grpc-encoding", "gzip")], 1, b"no gzip"), "3", "INVALID_ARGUMENT");
}
