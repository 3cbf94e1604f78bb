//! What /openapi.json says of errors is what is sent.

use std::collections::BTreeMap;

use harness::film::{large_picture, small_picture};
use harness::{Curl, Page, uuid};
use serde_json::{Value, json};

use super::{create, monolith, path_of, reason};

/// The examples of errors: by operation, status and reason.
type Documented = BTreeMap<(String, String, String), Value>;

/// The services whose errors are provoked here.
const TAGS: [&str; 5] = [
    "catalog.v1.CatalogService",
    "artwork.v1.ArtworkService",
    "google.longrunning.Operations",
    "mesh.operations.v1.OperationControlService",
    "mesh.operations.v1.OperationEventsService",
];

/// Errors that no request to one process provokes, in the order of the document.
const NOT_PROVOKED: [(&str, &str); 9] = [
    // The catalog is in the same process.
    ("ArtworkService_RenderArtwork", "NO_ENDPOINTS"),
    ("ArtworkService_RenderArtwork_2", "NO_ENDPOINTS"),
    // It takes an operation that has failed.
    ("OperationControlService_Retry", "REQUEST_ID_REUSED"),
    // They end a stream that has begun.
    ("OperationEventsService_Subscribe", "SLOW_CONSUMER"),
    ("OperationEventsService_Subscribe", "DATABASE_UNAVAILABLE"),
    ("OperationEventsService_Subscribe", "STREAM_DRAINING"),
    ("OperationEventsService_Watch", "SLOW_CONSUMER"),
    ("OperationEventsService_Watch", "DATABASE_UNAVAILABLE"),
    ("OperationEventsService_Watch", "STREAM_DRAINING"),
];

fn documented(openapi: &Value) -> Documented {
    let mut found = Documented::new();
    let items = openapi["paths"].as_object().expect("paths").values();
    let operations = items.flat_map(|item| item.as_object().expect("an item").values());
    for operation in operations.filter(|it| TAGS.iter().any(|tag| it["tags"][0] == *tag)) {
        let id = operation["operationId"].as_str().expect("an id");
        for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
            let examples = answer["content"]["application/problem+json"]["examples"].as_object();
            for (reason, example) in examples.into_iter().flatten().filter(|_| status != "default") {
                found.insert((id.to_owned(), status.clone(), reason.clone()), example["value"].clone());
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Errors of callers without a proper token: without `auth.mode` there are none.
const OF_TOKENS: [&str; 6] =
    ["CALLER_NOT_ALLOWED", "ISSUER_UNAVAILABLE", "SCOPE_MISSING", "TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_MISSING"];

/// Compares an answer with the example of its status and reason, and removes that.
fn check(documented: &mut Documented, id: &str, page: &Page) {
    let problem = page.json();
    let key = (id.to_owned(), page.status.to_string(), reason(&problem));
    let example =
        documented.remove(&key).unwrap_or_else(|| panic!("{key:?} is not documented, or came twice: {problem}"));
    for member in ["type", "title", "status", "code"] {
        assert_eq!(problem[member], example[member], "{key:?}: {member}");
    }
    assert_eq!(problem["details"][0]["domain"], example["details"][0]["domain"], "{key:?}");
}

fn send(curl: &Curl, (method, path, headers): (&str, &str, &[&str]), body: &[u8]) -> Page {
    let headers: Vec<_> = headers.iter().flat_map(|header| ["--header", header]).collect();
    let data: &[&str] = if body.is_empty() { &[] } else { &["--data-binary", "@-"] };
    curl.send(path, &[&["--request", method], &headers[..], data].concat(), body)
}

#[test]
fn documented_errors_are_those_that_are_sent() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let mut documented = documented(&curl.get("/openapi.json").json());
    let title = path_of(&create(&curl, "Metropolis"));
    let key = format!("Idempotency-Key: {}", uuid());
    let used = send(&curl, ("POST", "/v1/titles", &[JSON, &key]), br#"{"name": "Nosferatu", "year": 1922}"#);
    assert_eq!(used.status, 200, "{used:?}");
    let mut check = |id: &str, request: (&str, &str, &[&str]), body: &[u8]| {
        check(&mut documented, id, &send(&curl, request, body));
    };
    of_the_catalog(&title, &key, &mut check);
    let running = of_artwork(&curl, &title, &mut check);
    of_operations(&running, &mut check);
    let left = documented.into_keys().map(|(id, _, reason)| (id, reason));
    let left: Vec<_> = left.filter(|(_, reason)| !OF_TOKENS.contains(&reason.as_str())).collect();
    let expected: Vec<_> = NOT_PROVOKED.map(|(id, reason)| (id.to_owned(), reason.to_owned())).into();
    assert_eq!(left, expected);
}

/// Sends a request, and checks its answer against the document.
type Check<'c> = dyn FnMut(&str, (&str, &str, &[&str]), &[u8]) + 'c;

const JSON: &str = "Content-Type: application/json";
const PNG: &str = "Content-Type: image/png";

fn of_the_catalog(title: &str, key: &str, check: &mut Check<'_>) {
    let absent = format!("/v1/titles/{}", uuid());
    check("CatalogService_CreateTitle", ("POST", "/v1/titles", &[JSON]), b"{}");
    check("CatalogService_CreateTitle", ("POST", "/v1/titles", &[JSON, key]), br#"{"name": "M", "year": 1931}"#);
    check("CatalogService_GetTitle", ("GET", "/v1/titles/1", &[]), b"");
    check("CatalogService_GetTitle", ("GET", &absent, &[]), b"");
    check("CatalogService_BatchGetTitles", ("GET", "/v1/titles:batchGet", &[]), b"");
    check("CatalogService_ListTitles", ("GET", "/v1/titles?pageSize=-1", &[]), b"");
    let stale = br#"{"synopsis": "A city.", "revision": "9"}"#;
    check("CatalogService_UpdateTitle", ("PATCH", title, &[JSON]), b"{}");
    check("CatalogService_UpdateTitle", ("PATCH", &absent, &[JSON]), stale);
    check("CatalogService_UpdateTitle", ("PATCH", title, &[JSON]), stale);
    check("CatalogService_UpdateTitle", ("PATCH", title, &[JSON, "If-Match: \"9\""]), stale);
    check("CatalogService_DeleteTitle", ("DELETE", "/v1/titles/1", &[]), b"");
    check("CatalogService_DeleteTitle", ("DELETE", &absent, &[]), b"");
}

/// Returns the path of an operation that runs.
fn of_artwork(curl: &Curl, title: &str, check: &mut Check<'_>) -> String {
    let absent = format!("/v1/titles/{}", uuid());
    let key = format!("Idempotency-Key: {}", uuid());
    let picture = large_picture();
    let upload = format!("{title}/artwork:upload");
    let started = send(curl, ("POST", &upload, &[PNG, &key]), &picture);
    assert_eq!(started.status, 200, "{started:?}");
    let name = started.json()["name"].as_str().expect("a name").to_owned();
    for (id, verb, kind) in
        [("ArtworkService_RenderArtwork", "render", JSON), ("ArtworkService_RenderArtwork_2", "upload", PNG)]
    {
        let path = |of: &str| format!("{of}/artwork:{verb}");
        let body = |content: &[u8]| match verb {
            "upload" => content.to_vec(),
            _ => json!({"image": base64(content)}).to_string().into_bytes(),
        };
        check(id, ("POST", &path(title), &[kind]), &body(b"no picture"));
        check(id, ("POST", &path(&absent), &[kind, &format!("Idempotency-Key: {}", uuid())]), &body(&small_picture()));
        check(id, ("POST", &path(title), &[kind, &key]), &body(&small_picture()));
        check(id, ("POST", &path(title), &[kind, &key]), &vec![b' '; 20 << 20]);
    }
    check("ArtworkService_GetArtwork", ("GET", "/v1/titles/1/artwork", &[]), b"");
    check("ArtworkService_GetArtwork", ("GET", &format!("{absent}/artwork"), &[]), b"");
    check("ArtworkService_BatchGetArtworks", ("GET", "/v1/artworks:batchGet", &[]), b"");
    check("ArtworkService_DownloadRendition", ("GET", "/v1/titles/1/renditions/SIZE_TV", &[]), b"");
    check("ArtworkService_DownloadRendition", ("GET", &format!("{absent}/renditions/SIZE_TV"), &[]), b"");
    format!("/v1/{name}")
}

fn base64(content: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(content)
}

fn of_operations(running: &str, check: &mut Check<'_>) {
    let (malformed, absent) =
        ("/v1/services/artwork/operations/1", format!("/v1/services/artwork/operations/{}", uuid()));
    let retry = json!({"requestId": uuid()}).to_string().into_bytes();
    check("Operations_DeleteOperation", ("DELETE", running, &[]), b"");
    check("OperationControlService_Retry", ("POST", &format!("{running}:retry"), &[JSON]), &retry);
    check("OperationControlService_Resume", ("POST", &format!("{running}:resume"), &[JSON]), b"{}");
    check("Operations_DeleteOperation", ("DELETE", malformed, &[]), b"");
    check("Operations_DeleteOperation", ("DELETE", &format!("/v1/services/none/operations/{}", uuid()), &[]), b"");
    for (id, method, verb, body) in [
        ("Operations_GetOperation", "GET", "", &b""[..]),
        ("Operations_WaitOperation", "GET", ":wait", b""),
        ("Operations_CancelOperation", "POST", ":cancel", b"{}"),
        ("OperationControlService_Retry", "POST", ":retry", &retry),
        ("OperationControlService_Resume", "POST", ":resume", b"{}"),
        ("OperationEventsService_Watch", "GET", ":watch", b""),
    ] {
        check(id, (method, &format!("{malformed}{verb}"), &[JSON]), body);
        check(id, (method, &format!("{absent}{verb}"), &[JSON]), body);
    }
    for (id, verb) in [("Operations_ListOperations", ""), ("OperationEventsService_Subscribe", ":subscribe")] {
        let mistake = if verb.is_empty() { "?pageToken=x" } else { "?cursor=eA==" };
        check(id, ("GET", &format!("/v1/services/artwork/operations{verb}{mistake}"), &[]), b"");
        check(id, ("GET", &format!("/v1/services/none/operations{verb}"), &[]), b"");
    }
}
