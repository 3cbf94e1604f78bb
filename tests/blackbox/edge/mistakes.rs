//! Bad input: every answer is a problem document with a code of the caller's, and nothing is written.

use std::time::{Duration, Instant};

use harness::{Curl, Page, uuid};
use serde_json::{Value, json};

use super::{monolith, path_of, reason};

/// The answer to a mistake: its status, and what its message says.
fn check(name: &str, page: &Page, status: u16, says: &str) {
    assert_eq!(page.status, status, "{name}: {page:?}");
    assert_eq!(page.header("content-type"), Some("application/problem+json"), "{name}");
    let problem = page.json();
    assert_eq!(problem["status"].as_u64(), Some(u64::from(status)), "{name}");
    for member in ["type", "title", "detail", "message"] {
        assert!(problem[member].is_string(), "{name} has no {member}: {problem}");
    }
    assert!(problem["code"].as_i64().is_some_and(|code| code != 0), "{name}: {problem}");
    assert!(!reason(&problem).is_empty(), "{name} has no reason: {problem}");
    assert!(problem.to_string().to_lowercase().contains(&says.to_lowercase()), "{name}: no {says:?} in {problem}");
}

#[test]
fn mistakes_in_json_are_named() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let title = |member: &str| format!("{{\"requestId\": \"{}\", \"name\": \"M\", \"year\": 1931, {member}}}", uuid());
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for (name, body, says) in [
        ("an unknown field", title("\"yaer\": 1"), "the nearest is `year`"),
        ("a key twice", title("\"name\": \"N\""), "name"),
        ("a field by both names", title("\"price_cents\": 1, \"priceCents\": 1"), "price"),
        ("bytes behind the end", format!("{} x", title("\"synopsis\": \"\"")), ""),
        ("a lone surrogate", title("\"synopsis\": \"\\ud800\""), ""),
        ("too deep", deep, ""),
        ("a number too large", title("\"priceCents\": 1e400"), "out of range"),
        ("a fraction", "{\"year\": 1.5}".to_owned(), "year"),
        ("a text for a number", "{\"year\": \"abc\"}".to_owned(), "year"),
        ("2^63", title("\"priceCents\": 9223372036854775808"), "price"),
        ("null in a list", "{\"name\": [null]}".to_owned(), "name"),
        ("no object", "[]".to_owned(), ""),
        ("no JSON", "name=M".to_owned(), ""),
        ("a cut", "{\"name\":\n\"M".to_owned(), "line 2"),
    ] {
        check(name, &curl.text("POST", "/v1/titles", &body), 400, says);
    }
    let listed = curl.get("/v1/titles").json();
    assert_eq!(listed["titles"], json!([]), "nothing was written");
}

#[test]
fn mistakes_are_all_reported_at_once() {
    let Some(process) = monolith() else { return };
    let page = process.curl().json("POST", "/v1/titles", &json!({"name": "", "year": 1, "priceCents": -1}));
    let problem = page.json();
    let violations =
        problem["details"].as_array().unwrap().iter().find_map(|detail| detail["fieldViolations"].as_array());
    let fields: Vec<_> = violations.expect("violations").iter().map(|it| it["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["request_id", "name", "year", "price_cents"]);
}

#[test]
fn mistakes_in_addresses_are_named() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let slashes = "/".repeat(1000);
    for (name, path, status, says) in [
        ("an unknown path", "/v2/titles", 404, "openapi"),
        ("an unknown parameter", "/v1/titles?pagesize=1", 400, "pagesize"),
        ("a parameter twice", "/v1/titles?page_size=1&page_size=2", 400, "page_size"),
        ("a parameter that is no number", "/v1/titles?page_size=many", 400, "page_size"),
        ("a malformed escape", "/v1/titles/%zz", 400, "hexadecimal"),
        ("a zero byte", "/v1/titles/%00", 400, ""),
        ("dots", "/v1/titles/../../etc/passwd", 400, "segment"),
        ("a thousand slashes", slashes.as_str(), 404, ""),
        ("an id that is none", "/v1/titles/1", 400, "title_id"),
    ] {
        let start = Instant::now();
        check(name, &curl.get(path), status, says);
        assert!(start.elapsed() < Duration::from_secs(5), "{name}");
    }
    let post = curl.send("/v1/titles/1", &["--request", "POST"], b"");
    check("a method that the path has not", &post, 405, "");
    let allow = post.header("allow").unwrap_or_default().to_owned();
    assert!(["GET", "PATCH", "DELETE"].iter().all(|method| allow.contains(method)), "{allow}");
}

#[test]
fn mistakes_in_headers_and_bodies_are_named() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let title = super::create(&curl, "Metropolis");
    let body = |extra: &[&str], body: &[u8]| {
        let json = ["--header", "Content-Type: application/json", "--data-binary", "@-"];
        curl.send("/v1/titles", &[&json[..], extra].concat(), body)
    };
    let valid = json!({"requestId": uuid(), "name": "M", "year": 1931}).to_string();
    check("an encoding", &body(&["--header", "Content-Encoding: br"], valid.as_bytes()), 415, "gzip");
    check("no gzip", &body(&["--header", "Content-Encoding: gzip"], valid.as_bytes()), 400, "gzip");
    check(
        "two ids",
        &body(&["--header", &format!("Idempotency-Key: {}", uuid())], valid.as_bytes()),
        400,
        "request_id",
    );
    check(
        "a key",
        &body(&["--header", "Idempotency-Key: 1"], b"{\"name\": \"M\", \"year\": 1931}"),
        400,
        "header Idempotency-Key",
    );
    check("a timeout", &body(&["--header", "grpc-timeout: 1"], valid.as_bytes()), 400, "grpc-timeout");
    check("too large", &body(&[], &vec![b' '; 5 << 20]), 413, "larger");
    let form = curl.send("/v1/titles", &["--data-binary", "@-"], valid.as_bytes());
    check("a form", &form, 415, "application/json");
    let text =
        curl.send("/v1/titles", &["--header", "Content-Type: text/plain", "--data-binary", "@-"], valid.as_bytes());
    check("a text", &text, 415, "application/json");
    let matches = ["--request", "PATCH", "--header", "If-Match: \"x\"", "--header", "Content-Type: application/json"];
    let stale = curl.send(&path_of(&title), &[&matches[..], &["--data-binary", "@-"]].concat(), b"{}");
    check("a tag", &stale, 400, "If-Match");
    let blind = ["--request", "PATCH", "--header", "Content-Type: application/json", "--data-binary", "@-"];
    check("no revision", &curl.send(&path_of(&title), &blind, b"{\"year\": 1931}"), 400, "header If-Match");
    let delete = curl.send(&path_of(&title), &["--request", "DELETE", "--header", "If-Match: \"99\""], b"");
    check("a tag that nothing checks", &delete, 400, "If-Match");
    assert_eq!(curl.get(&path_of(&title)).status, 200, "it is not deleted");
    let get = ["--request", "GET", "--header", "Content-Type: application/json", "--data-binary", "@-"];
    check("a body of GET", &curl.send("/v1/titles", &get, b"{}"), 400, "body");
    check("gzip bomb", &body(&["--header", "Content-Encoding: gzip"], &bomb()), 413, "larger");
}

/// 100 MB of zeros, as gzip.
fn bomb() -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = std::process::Command::new("gzip");
    let mut gzip =
        gzip.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().expect("gzip runs");
    let mut stdin = gzip.stdin.take().expect("stdin");
    let feed =
        std::thread::spawn(move || (0..100).for_each(|_| stdin.write_all(&vec![0; 1 << 20]).expect("gzip reads")));
    let output = gzip.wait_with_output().expect("gzip ends");
    feed.join().expect("it was fed");
    output.stdout
}

#[test]
fn mistakes_are_counted_by_reason() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    curl.get("/v2/titles");
    curl.get("/v1/titles?pagesize=1");
    let metrics = process.http("/metrics");
    for reason in ["UNKNOWN_PATH", "INVALID_FIELDS"] {
        let line = format!("mesh_edge_refused_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

#[test]
fn internals_of_the_mesh_are_not_reached() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let post = |path| curl.json("POST", path, &Value::Object(serde_json::Map::new()));
    check("an internal method", &post("/grpc.health.v1.Health/Check"), 404, "");
    check("a public one", &post("/catalog.v1.CatalogService/GetTitle"), 415, "application/grpc");
    assert!(Curl::installed());
}
