//! JSON over HTTP, by curl against a real process.

mod documented; // the errors of /openapi.json
mod gateway; // the edge in a process of its own
mod hostile; // what no browser sends, over raw sockets
mod mistakes; // the answers to bad input
mod streams; // server-sent events, and lines of JSON
mod tls; // TLS of the edge's own listener

use harness::{Curl, Grpcurl, Process, RawCall, uuid};
use serde_json::{Value, json};

fn monolith() -> Option<Process> {
    Curl::installed().then(|| Process::start("monolith", &[]))
}

fn create(curl: &Curl, name: &str) -> Value {
    let page = curl.json("POST", "/v1/titles", &json!({"requestId": uuid(), "name": name, "year": 1927}));
    assert_eq!(page.status, 200, "{page:?}");
    page.json()
}

fn path_of(title: &Value) -> String {
    format!("/v1/titles/{}", title["titleId"].as_str().expect("an id"))
}

#[test]
fn edge_serves_json_on_the_port_of_grpc() {
    if let Some(process) = monolith() {
        keeps_its_contract(&process.curl());
    }
}

/// The catalog's contract over HTTP.
fn keeps_its_contract(curl: &Curl) {
    let title = create(curl, "Metropolis");
    assert_eq!(title["name"], "Metropolis");
    assert_eq!(title["synopsis"], "", "an empty text is printed");
    assert_eq!(title["priceCents"], "0", "a number of 64 bits is a string");

    let read = curl.get(&path_of(&title));
    assert_eq!((read.status, read.header("content-type")), (200, Some("application/json")));
    assert_eq!(read.json(), title);
    let listed = curl.get("/v1/titles?page_size=1").json();
    assert_eq!(listed["titles"].as_array().map(Vec::len), Some(1));
    assert_eq!(curl.get("/v1/titles?pageSize=1").json(), listed, "both names of a field");

    let changed = curl.json("PATCH", &path_of(&title), &json!({"synopsis": "A city.", "revision": title["revision"]}));
    assert_eq!((changed.json()["synopsis"].as_str(), changed.status), (Some("A city."), 200), "{changed:?}");
    assert_eq!(changed.json()["name"], "Metropolis", "what is not named stays");
    assert_eq!(curl.send(&path_of(&title), &["--request", "DELETE"], b"").status, 200);
    let gone = curl.get(&path_of(&title));
    assert_eq!((gone.status, gone.json()["code"].as_i64()), (404, Some(5)));
}

#[test]
fn edge_repeats_the_answer_to_a_repeated_request() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let key = format!("Idempotency-Key: {}", uuid());
    let send = |name: &str| {
        let arguments = ["--header", &key, "--header", "Content-Type: application/json", "--data-binary", "@-"];
        curl.send("/v1/titles", &arguments, json!({"name": name, "year": 1927}).to_string().as_bytes())
    };
    let first = send("Metropolis");
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(send("Metropolis").json(), first.json());
    let other = send("Nosferatu");
    assert_eq!((other.status, reason(&other.json()).as_str()), (400, "REQUEST_ID_REUSED"));
}

fn reason(problem: &Value) -> String {
    let details = problem["details"].as_array().cloned().unwrap_or_default();
    details.iter().find_map(|detail| detail["reason"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn edge_tells_caches_and_writers_which_revision_they_have() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let title = create(&curl, "Metropolis");
    let path = path_of(&title);
    let tag = curl.get(&path).header("etag").expect("an ETag").to_owned();
    assert_eq!(tag, format!("\"{}\"", title["revision"].as_str().unwrap()));
    let known = curl.send(&path, &["--header", &format!("If-None-Match: {tag}")], b"");
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(known.header("vary"), Some("accept-encoding"), "as the answer with a body");

    let patch = |tag: &str| {
        let tag = format!("If-Match: {tag}");
        let arguments = ["--request", "PATCH", "--header", &tag, "--header", "Content-Type: application/json"];
        curl.send(&path, &[&arguments[..], &["--data-binary", "@-"]].concat(), b"{\"synopsis\": \"A city.\"}")
    };
    let changed = patch(&tag);
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
    let stale = patch(&tag);
    assert_eq!((stale.status, reason(&stale.json()).as_str()), (412, "STALE_REVISION"));
    assert_eq!(curl.send(&path, &["--header", &format!("If-None-Match: {tag}")], b"").status, 200, "a later revision");
}

#[test]
fn edge_compresses_large_documents() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    for number in 0..20 {
        create(&curl, &format!("Metropolis {number}"));
    }
    let plain = curl.get("/v1/titles");
    let compressed = curl.send("/v1/titles", &["--header", "Accept-Encoding: gzip"], b"");
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert!(compressed.body.len() * 2 < plain.body.len());
    let decoded = curl.send("/v1/titles", &["--compressed"], b"");
    assert_eq!(decoded.body, plain.body);
}

#[test]
fn edge_keeps_foreign_pages_out() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let post = |header: &str| {
        let arguments = ["--header", header, "--header", "Content-Type: application/json", "--data-binary", "@-"];
        curl.send(
            "/v1/titles",
            &arguments,
            json!({"requestId": uuid(), "name": "M", "year": 1931}).to_string().as_bytes(),
        )
    };
    assert_eq!(post("Origin: https://evil.example").status, 403);
    assert_eq!(post("Sec-Fetch-Site: cross-site").status, 403);
    assert_eq!(post("Sec-Fetch-Site: same-origin").status, 200);
    let rebound = curl.send("/v1/titles", &["--header", "Host: rebound.example"], b"");
    assert_eq!((rebound.status, reason(&rebound.json()).as_str()), (421, "HOST_NOT_ALLOWED"));
    let read = curl.send("/v1/titles", &["--header", "Origin: https://evil.example"], b"");
    assert_eq!(read.header("access-control-allow-origin"), None, "its page cannot read the answer");
    assert!(process.http("/metrics").contains("mesh_edge_refused_total{reason=\"HOST_NOT_ALLOWED\"} 1"));
}

#[test]
fn edge_shares_answers_with_listed_origins() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__EDGE__CORS_ORIGINS", "https://shop.example")]);
    let curl = process.curl();
    let origin = ["--header", "Origin: https://shop.example"];
    let preflight = ["--request", "OPTIONS", "--header", "Access-Control-Request-Method: PATCH"];
    let asked = curl.send("/v1/titles", &[&origin[..], &preflight].concat(), b"");
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (204, Some("https://shop.example")));
    for sent in ["idempotency-key", "mesh-consistency"] {
        assert!(asked.header("access-control-allow-headers").is_some_and(|headers| headers.contains(sent)), "{sent}");
    }
    let read = curl.send("/v1/titles", &origin, b"");
    assert_eq!(read.header("access-control-allow-origin"), Some("https://shop.example"));
    for read_by in ["etag", "mesh-consistency"] {
        assert!(read.header("access-control-expose-headers").is_some_and(|headers| headers.contains(read_by)));
    }
}

#[test]
fn edge_limits_each_client() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__EDGE__RATE", "2/s")]);
    let curl = process.curl();
    let refused = (0..50).map(|_| curl.get("/v1/titles")).find(|page| page.status == 429);
    let refused = refused.expect("more than two a second are refused");
    assert_eq!(reason(&refused.json()), "RATE_LIMITED");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("ratelimit"), Some("\"client\";r=0;t=1"));
    assert!(process.http("/healthz").contains("200"), "admin pages have no limit");
}

#[test]
fn edge_can_be_off() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__EDGE__ENABLED", "false")]);
    let page = process.curl().get("/v1/titles");
    assert!(page.status == 404 && page.text().contains("gRPC server"), "{page:?}");
}

#[test]
fn edge_on_a_listener_of_its_own_has_the_public_methods_alone() {
    if !Curl::installed() || !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__EDGE__LISTEN", "127.0.0.1:0")]);
    let edge = process.listener("edge");
    let curl = Curl::to(edge);
    keeps_its_contract(&curl);
    for page in ["/metrics", "/readyz", "/healthz"] {
        assert_eq!(curl.get(page).status, 404, "{page}");
    }
    assert_eq!(process.curl().get("/v1/titles").status, 404, "HTTP is answered there alone");
    assert!(process.http("/readyz").contains("200"));
    let rebound = process.curl().send("/readyz", &["--header", "Host: rebound.example"], b"");
    assert_eq!((rebound.status, reason(&rebound.json()).as_str()), (421, "HOST_NOT_ALLOWED"));

    let code = |method: &str| {
        let mut call = RawCall::begin(edge, method, &[]);
        call.send(b"");
        call.ended().code
    };
    assert_eq!(code("/catalog.v1.CatalogService/ListTitles"), "0");
    assert_eq!(code("/grpc.health.v1.Health/Check"), "0");
    assert_eq!(code("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), "12");
    assert!(Grpcurl::to(process.address).run(&[], &["list"]).text().contains("catalog.v1.CatalogService"));
}
