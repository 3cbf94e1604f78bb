//! The inspect API of a process: what a dashboard reads.

use std::collections::BTreeMap;
use std::process::Child;

use harness::{Grpcurl, Process, eventually};
use serde_json::{Deserializer, Value, json};

const SERVICE: &str = "mesh.inspect.v1.InspectService";
const CHECK: &str = "grpc.health.v1.Health/Check";

fn call(grpcurl: &Grpcurl, method: &str, request: &Value) -> harness::Answer {
    grpcurl.call(&format!("{SERVICE}/{method}"), request)
}

/// Checks the health of a service that is there, and of one that is not, so many times.
fn checks(grpcurl: &Grpcurl, ok: usize, failed: usize) {
    for _ in 0..ok {
        grpcurl.call(CHECK, &json!({})).json();
    }
    for _ in 0..failed {
        assert_eq!(grpcurl.call(CHECK, &json!({"service": "made.up"})).failure().1, "UNKNOWN_SERVICE");
    }
}

/// The messages of a stream, and how it ended.
fn messages(stream: Child) -> (Vec<Value>, String) {
    let output = stream.wait_with_output().expect("grpcurl ends");
    let messages: Result<_, _> = Deserializer::from_slice(&output.stdout).into_iter().collect();
    (messages.expect("JSON"), String::from_utf8(output.stderr).expect("UTF-8"))
}

/// The last state of each edge of a method, by side and caller.
fn edges(messages: &[Value], method: &str) -> BTreeMap<(String, String), Value> {
    let edges = messages.iter().flat_map(|message| message["edges"].as_array().into_iter().flatten());
    let of = edges.filter(|edge| edge["method"] == method);
    let text = |edge: &Value, field: &str| edge[field].as_str().unwrap_or_default().to_owned();
    of.map(|edge| ((text(edge, "side"), text(edge, "caller")), edge.clone())).collect()
}

/// A number of 64 bits, which JSON has as text.
fn number(value: &Value) -> i64 {
    value.as_str().map_or(0, |text| text.parse().expect("a number"))
}

#[test]
fn inspect_describes_the_process() {
    if !Grpcurl::installed() {
        return;
    }
    let environment = [("MESH__DRAIN_LIMIT", "7s"), ("MESH__ADMIN__LISTEN", "127.0.0.1:0")];
    let process = Process::start("monolith", &environment);
    let about = call(&process.grpcurl(), "GetProcess", &json!({})).json();
    assert_eq!((&about["process"], about["startId"].as_str().map(str::len)), (&json!("monolith"), Some(32)));
    let listeners = json!([
        {"name": "services", "address": process.address.to_string()},
        {"name": "admin", "address": process.listener("admin").to_string()},
    ]);
    assert_eq!(about["listeners"], listeners);
    let settings = about["configuration"].as_array().expect("keys");
    let setting =
        |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key}"));
    let limit = json!({"key": "drain_limit", "value": "\"7s\"", "origin": "MESH__DRAIN_LIMIT"});
    assert_eq!(setting("drain_limit"), &limit);
    assert_eq!(setting("dashboard.calls"), &json!({"key": "dashboard.calls", "value": "4096", "origin": "default"}));
    eventually("the digest is known", || {
        let about = call(&process.grpcurl(), "GetProcess", &json!({})).json();
        about["digest"].as_str().filter(|digest| digest.len() == 64).map(|_| ())
    });

    let again = Process::start("monolith", &environment);
    assert_ne!(call(&again.grpcurl(), "GetProcess", &json!({})).json()["startId"], about["startId"]);
}

#[test]
fn inspect_watch_counts_what_metrics_count_until_the_drain() {
    if !Grpcurl::installed() {
        return;
    }
    let mut process = Process::start("monolith", &[("MESH__DRAIN_DELAY", "1s")]);
    let grpcurl = process.grpcurl();
    checks(&grpcurl, 2, 1);
    let watch = grpcurl.open_with(&format!("{SERVICE}/Watch"), &json!({"interval": "0.1s"}));
    let watching = format!(r#"grpc_server_in_flight{{grpc_service="{SERVICE}",grpc_method="Watch"}} 1"#);
    eventually("the watch is open", || process.http("/metrics").contains(&watching).then_some(()));
    checks(&grpcurl, 8, 2);
    let metrics = process.http("/metrics");
    process.signal("TERM");
    process.ended();
    let (messages, ended) = messages(watch);
    assert!(ended.contains("Unavailable") && ended.contains("shutting down"), "{ended}");
    let first = &messages[0];
    assert!(first["edges"].as_array().is_some_and(|edges| !edges.is_empty()), "the first is whole: {first}");
    assert!(messages.iter().all(|message| message["startId"] == first["startId"]));
    assert!(messages.last().is_some_and(|last| last["draining"] == true), "{:?}", messages.last());
    // Of the messages between, few have news.
    let empty = messages.iter().filter(|message| message["edges"].is_null()).count();
    assert!(messages.len() > 3 && empty > 1, "{} messages, {empty} without edges", messages.len());

    let edges = edges(&messages, CHECK);
    let [edge] = &edges.values().collect::<Vec<_>>()[..] else { panic!("{edges:?}") };
    assert_eq!(edge["side"], "SIDE_SERVER");
    for (code, name, calls) in [(Value::Null, "OK", 10), (json!(5), "NotFound", 3)] {
        let counted = format!(
            r#"grpc_server_handled_total{{grpc_service="grpc.health.v1.Health",grpc_method="Check",grpc_code="{name}"}} {calls}"#
        );
        assert!(metrics.contains(&counted), "{metrics}");
        let count = edge["codes"].as_array().expect("codes").iter().find(|count| count["code"] == code);
        assert_eq!(count.map(|count| number(&count["count"])), Some(calls), "{edge}");
    }
    let buckets = edge["buckets"].as_array().expect("buckets").iter();
    assert_eq!(buckets.map(|bucket| number(&bucket["count"])).sum::<i64>(), 13, "{edge}");
    assert_eq!((&edge["lastFailure"]["reason"], number(&edge["inFlight"])), (&json!("UNKNOWN_SERVICE"), 0));
}

#[test]
fn inspect_keeps_failures_and_a_sample_with_their_trace() {
    if !Grpcurl::installed() {
        return;
    }
    let environment = [
        ("MESH__DASHBOARD__SAMPLE", "1"),
        // No call of a busy machine is a problem.
        ("MESH__DASHBOARD__SLOW", "1h"),
        ("MESH__LOG__LEVEL", "info,mesh=debug"),
    ];
    let process = Process::start("monolith", &environment);
    let grpcurl = process.grpcurl();
    let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let parent = format!("traceparent: 00-{trace}-{span}-01");
    grpcurl.run(&["-H", &parent, "-d", "{}"], &[CHECK]).json();
    checks(&grpcurl, 0, 1);

    let kept = call(&grpcurl, "GetTrace", &json!({"trace": trace})).json();
    // grpcurl sends the header with its calls for reflection, too.
    let check = kept["calls"].as_array().expect("calls").iter().find(|call| call["method"] == CHECK);
    let check = check.unwrap_or_else(|| panic!("{kept}"));
    assert_eq!((&check["trace"], &check["parent"]), (&json!(trace), &json!(span)));
    let problems = call(&grpcurl, "ListCalls", &json!({"problems": true, "method": CHECK})).json();
    let [problem] = &problems["calls"].as_array().expect("calls")[..] else { panic!("{problems}") };
    assert_eq!((&problem["code"], &problem["reason"]), (&json!(5), &json!("UNKNOWN_SERVICE")));
    let all = call(&grpcurl, "ListCalls", &json!({"method": CHECK})).json();
    assert_eq!(all["calls"].as_array().map(Vec::len), Some(2), "{all}");

    let log = call(&grpcurl, "TailLogs", &json!({"end": true, "trace": trace})).json();
    let lines = log["lines"].as_array().expect("lines");
    assert!(!lines.is_empty() && lines.iter().all(|line| line["trace"] == trace && line["level"] == "debug"), "{log}");
    assert!(lines[0]["text"].as_str().is_some_and(|text| text.starts_with("done code=\"OK\" took=")), "{log}");
}

#[test]
fn inspect_follows_the_log() {
    if !Grpcurl::installed() {
        return;
    }
    let mut process = Process::start("monolith", &[("MESH__DRAIN_DELAY", "1s")]);
    let tail = process.grpcurl().open_with(&format!("{SERVICE}/TailLogs"), &json!({"level": "info"}));
    let reading = format!(r#"grpc_server_in_flight{{grpc_service="{SERVICE}",grpc_method="TailLogs"}} 1"#);
    eventually("the log is read", || process.http("/metrics").contains(&reading).then_some(()));
    process.signal("TERM");
    process.ended();
    let (messages, ended) = messages(tail);
    assert!(ended.contains("shutting down"), "{ended}");
    let lines = messages.iter().flat_map(|message| message["lines"].as_array().into_iter().flatten());
    let draining = lines.filter(|line| line["text"].as_str().is_some_and(|text| text.starts_with("draining ")));
    assert_eq!(draining.count(), 1, "{messages:?}");
}

#[test]
fn inspect_refuses_what_makes_no_sense() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let grpcurl = process.grpcurl();
    for (method, request) in [
        ("Watch", json!({"interval": "0s"})),
        ("Watch", json!({"interval": "0.099s"})),
        ("Watch", json!({"interval": "61s"})),
        ("Watch", json!({"interval": "-1s"})),
        ("ListCalls", json!({"page_size": -1})),
        ("ListCalls", json!({"page_size": 1001})),
        ("GetTrace", json!({})),
        ("GetTrace", json!({"trace": "+bf92f3577b34da6a3ce929d0e0e4736"})),
        ("TailLogs", json!({"level": "loud"})),
        ("TailLogs", json!({"trace": "1"})),
    ] {
        let failure = call(&grpcurl, method, &request).failure();
        assert_eq!(failure, ("InvalidArgument".to_owned(), "INVALID_FIELDS".to_owned()), "{method} {request}");
    }
    let unknown = call(&grpcurl, "GetTrace", &json!({"trace": "4bf92f3577b34da6a3ce929d0e0e4736"})).failure();
    assert_eq!(unknown, ("NotFound".to_owned(), "TRACE_NOT_FOUND".to_owned()));
}

#[test]
fn inspect_shows_no_secret() {
    if !Grpcurl::installed() {
        return;
    }
    let secret = "hush-4711";
    let environment = [
        // Nothing answers there.
        ("MESH__REGISTRY", "consul://127.0.0.1:1"),
        ("MESH__CONSUL__TOKEN", secret),
        ("MESH__LOG__LEVEL", "debug"),
    ];
    let process = Process::start("monolith", &environment);
    let grpcurl = process.grpcurl();
    let about = call(&grpcurl, "GetProcess", &json!({})).json();
    let settings = about["configuration"].as_array().expect("keys");
    let token = settings.iter().find(|setting| setting["key"] == "consul.token").expect("the token");
    assert_eq!(token, &json!({"key": "consul.token", "value": "set", "origin": "MESH__CONSUL__TOKEN", "secret": true}));
    checks(&grpcurl, 1, 1);
    let log = call(&grpcurl, "TailLogs", &json!({"end": true})).text();
    let calls = call(&grpcurl, "ListCalls", &json!({})).text();
    assert!(log.contains("127.0.0.1:1"), "no line about Consul: {log}");
    for shown in [about.to_string(), log, calls] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn inspect_is_not_for_callers_by_http() {
    let process = Process::start("monolith", &[]);
    for path in ["GetProcess", "Watch", "TailLogs"] {
        let answer = process.http(&format!("/{SERVICE}/{path}"));
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(!process.http("/openapi.json").contains("inspect"), "the document of the edge has it");
}
