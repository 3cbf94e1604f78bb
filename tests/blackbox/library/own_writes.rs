//! A caller of the catalog finds its own write at library at once, by its token.

use std::time::{Duration, Instant};

use contracts::catalog::v1::CreateTitleRequest;
use harness::{Curl, Grpcurl, Process, eventually, uuid};
use prost::Message as _;
use serde_json::{Value, json};

use super::request;
use super::topologies::{Processes, environment};

const WANT: &str = "mesh-consistency: want";
const CREATE: &str = "catalog.v1.CatalogService/CreateTitle";
const GET: &str = "library.v1.LibraryService/GetTitle";

fn title() -> Value {
    json!({"request_id": uuid(), "name": "Metropolis", "year": 1927, "price_cents": 399})
}

/// Creates a title; returns its id and the header with the token, as `grpcurl -v` prints them. On a busy machine an
/// answer goes without its token, and the first one again has it.
fn create(catalog: &Grpcurl, title: &Value) -> (String, String) {
    eventually("the answer has a token", || {
        let printed = catalog.run(&["-v", "-H", WANT, "-d", &title.to_string()], &[CREATE]).text();
        let id = printed.split_once("\"titleId\": \"").and_then(|(_, rest)| rest.split_once('"')).expect("an id").0;
        let token = printed.lines().find(|line| line.starts_with("mesh-consistency: catalog="))?;
        Some((id.to_owned(), token.to_owned()))
    })
}

/// What each topology must do, by gRPC.
fn finds_own_writes(catalog: &Grpcurl, library: &Grpcurl) {
    let ask =
        |token: &str, method: &str, request: &Value| library.run(&["-H", token, "-d", &request.to_string()], &[method]);
    for _ in 0..20 {
        let (id, token) = create(catalog, &title());
        let found = ask(&token, GET, &json!({"title_id": id})).json();
        assert_eq!(found["title"]["titleId"], id);
    }
    let title = title();
    let (id, token) = create(catalog, &title);
    let rented = ask(&token, "library.v1.LibraryService/RentTitle", &request(&id)).json();
    assert!(rented["name"].is_string(), "{rented}");

    let (repeated, again) = create(catalog, &title);
    assert_eq!(repeated, id, "the first answer");
    ask(&again, GET, &json!({"title_id": id})).json();
    let unasked = catalog.run(&["-v", "-d", &self::title().to_string()], &[CREATE]).text();
    assert!(!unasked.contains("mesh-consistency"), "{unasked}");

    let malformed = ask("mesh-consistency: catalog=7", GET, &json!({"title_id": id}));
    assert_eq!(malformed.failure(), ("InvalidArgument".to_owned(), "MALFORMED_CONSISTENCY".to_owned()));
    let start = Instant::now();
    let behind = ask(&format!("{token}000"), GET, &json!({"title_id": id}));
    assert_eq!(behind.failure(), ("Unavailable".to_owned(), "NOT_CAUGHT_UP".to_owned()));
    assert!(start.elapsed() >= Duration::from_secs(2) && behind.detail("google.rpc.RetryInfo").is_object());
}

/// The same over HTTP, where one address answers for both services.
fn finds_own_writes_over_http(curl: &Curl) {
    let write = |path: &str, media_type: &str, body: &[u8]| {
        let arguments = ["--header", WANT, "--header", &format!("Content-Type: {media_type}"), "--data-binary", "@-"];
        eventually("the answer has a token", || {
            let page = curl.send(path, &arguments, body);
            let token = format!("mesh-consistency: {}", page.header("mesh-consistency")?);
            Some((page, token))
        })
    };
    let found = |id: &str, header: &str| curl.send(&format!("/v1/library/titles/{id}"), &["--header", header], b"");
    for _ in 0..20 {
        let (page, token) = write("/v1/titles", "application/json", title().to_string().as_bytes());
        let id = page.json()["titleId"].as_str().expect("an id").to_owned();
        assert_eq!(found(&id, &token).status, 200, "{token}");
    }
    let id = uuid();
    let malformed = found(&id, "mesh-consistency: catalog=7");
    assert!(malformed.status == 400 && malformed.text().contains("MALFORMED_CONSISTENCY"), "{malformed:?}");

    let message =
        CreateTitleRequest { request_id: uuid(), name: "Metropolis".into(), year: 1927, ..Default::default() };
    let message = message.encode_to_vec();
    let framed = [&[0][..], &u32::try_from(message.len()).expect("a length").to_be_bytes(), &message].concat();
    let (_, token) = write(&format!("/{CREATE}"), "application/grpc-web+proto", &framed);
    let behind = found(&id, &format!("{token}000"));
    assert!(behind.status == 503 && behind.text().contains("NOT_CAUGHT_UP"), "{behind:?}");
    assert!(behind.header("retry-after").is_some(), "{behind:?}");
    assert_eq!(found(&id, &token).status, 404, "it is there, and this title is not");
}

#[test]
fn own_writes_are_found_in_one_process() {
    if Grpcurl::installed() && Curl::installed() {
        let monolith = Process::start("monolith", &[]);
        finds_own_writes(&monolith.grpcurl(), &monolith.grpcurl());
        finds_own_writes_over_http(&monolith.curl());
    }
}

#[test]
fn own_writes_are_found_in_three_processes_and_through_a_gateway() {
    if !Grpcurl::installed() || !Curl::installed() {
        return;
    }
    let processes = Processes::start();
    let [catalog, library] = processes.grpcurls();
    finds_own_writes(&catalog, &library);

    let [catalog, billing, library] =
        [&processes.catalog, &processes.billing, &processes.library].map(|process| process.address.to_string());
    let more = [("MESH__STATIC__LIBRARY", &*library), ("MESH__LISTEN", "127.0.0.1:0")];
    let gateway = Process::start("gateway", &[&environment(&catalog, &billing)[..], &more].concat());
    finds_own_writes(&gateway.grpcurl(), &gateway.grpcurl());
    finds_own_writes_over_http(&gateway.curl());
}
