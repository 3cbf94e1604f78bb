//! A strict check of exported spans against OpenTelemetry's conventions for RPC, gRPC and HTTP, version 1.44.

use std::collections::BTreeSet;
use std::net::IpAddr;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use super::Exported;

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";

const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// The codes that are errors of a server's span. Of a client's, all but OK are.
const OF_SERVERS: [&str; 6] = ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];

/// The attributes of calls, and whether they are numbers.
const KNOWN: [(&str, bool); 18] = [
    ("rpc.system.name", false),
    ("rpc.method", false),
    ("rpc.method_original", false),
    ("rpc.response.status_code", false),
    ("http.request.method", false),
    ("http.request.method_original", false),
    ("http.response.status_code", true),
    ("url.scheme", false),
    ("url.path", false),
    ("url.query", false),
    ("url.full", false),
    ("error.type", false),
    ("server.address", false),
    ("server.port", true),
    ("network.peer.address", false),
    ("network.peer.port", true),
    ("client.address", false),
    ("client.port", true),
];

/// What is wrong with spans, each with the name of its span. Spans of services are checked for their form alone.
pub fn unconventional(spans: &[Exported]) -> Vec<String> {
    let of = |exported| violations(exported).into_iter().map(move |what| format!("{}: {what}", named(exported)));
    spans.iter().flat_map(of).collect()
}

fn named(exported: &Exported) -> String {
    format!("{} {:?}", exported.span.name, exported.span.kind())
}

fn violations(exported: &Exported) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let keys: Vec<_> = exported.span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    check(keys.iter().collect::<BTreeSet<_>>().len() == keys.len(), "an attribute is there twice");
    check(exported.schema == SCHEMA, "the schema is not that of the version");
    let (rpc, http) = (keys.contains(&"rpc.system.name"), keys.contains(&"http.request.method"));
    let is_call = matches!(exported.span.kind(), SpanKind::Client | SpanKind::Server);
    check(is_call == (rpc || http) && !(rpc && http), "its kind is not that of a call of one system");
    if !is_call {
        return wrong;
    }
    for attribute in &exported.span.attributes {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        let known = KNOWN.iter().find(|(key, _)| *key == attribute.key);
        let fits = match (known, value) {
            (Some((_, true)), Some(Value::IntValue(number))) => (1..65536).contains(number),
            (Some((_, false)), Some(Value::StringValue(text))) => !text.is_empty(),
            _ => false,
        };
        check(fits, &format!("{attribute:?} is none of the conventions"));
    }
    let text = |key: &str| exported.text(key).unwrap_or_default();
    let has = |key: &str| keys.contains(&key);
    let is_client = exported.span.kind() == SpanKind::Client;
    check(has("server.address") || !is_client, "a client's span has no server.address");
    check(has("server.address") || !has("server.port"), "server.port without server.address");
    check(has("network.peer.address") == has("network.peer.port"), "a peer has an address and a port");
    check(!has("network.peer.address") || text("network.peer.address").parse::<IpAddr>().is_ok(), "a peer is an IP");
    let failed = if rpc {
        check(text("rpc.system.name") == "grpc", "rpc.system.name is not grpc");
        let method = text("rpc.method");
        let is_other = method == "_OTHER";
        check(is_other || method.split('/').count() == 2, "rpc.method is not package.Service/Method");
        check(exported.span.name == if is_other { "grpc" } else { &*method }, "the name is not that of the method");
        check(is_other == has("rpc.method_original"), "rpc.method_original is for _OTHER");
        let code = text("rpc.response.status_code");
        check(CODES.contains(&&*code), "rpc.response.status_code is no code");
        if is_client { code != "OK" } else { OF_SERVERS.contains(&&*code) }
    } else {
        check(exported.span.name == text("http.request.method"), "the name is not that of the method");
        let needed = if is_client { &["url.full", "server.port"][..] } else { &["url.path", "url.scheme"] };
        check(needed.iter().all(|key| has(key)), "an attribute of HTTP is missing");
        let least = if is_client { 400 } else { 500 };
        exported.number("http.response.status_code").is_none_or(|code| code >= least)
    };
    let status = exported.span.status.clone().unwrap_or_default();
    let expected = if failed { StatusCode::Error } else { StatusCode::Unset };
    check(status.code() == expected, &format!("its status is {:?}", status.code()));
    check(failed == has("error.type"), "error.type is for failures");
    check(failed || status.message.is_empty(), "a description without an error");
    if rpc && failed {
        check(text("error.type") == text("rpc.response.status_code"), "error.type is not the code");
    }
    wrong
}
