//! Streams over HTTP: a picture goes in by curl, its progress comes out, and its renditions are documents.

use std::io::{BufRead as _, BufReader};

use harness::film::small_picture;
use harness::{Curl, Process, uuid};
use serde_json::Value;

use super::{create, monolith, path_of};

/// Uploads a picture as it is, and returns the name of the operation.
pub(super) fn upload(curl: &Curl, title: &Value) -> String {
    let (picture, key) = (small_picture(), format!("Idempotency-Key: {}", uuid()));
    let arguments = ["--header", "Content-Type: image/png", "--header", &key, "--data-binary", "@-"];
    let page = curl.send(&format!("{}/artwork:upload", path_of(title)), &arguments, &picture);
    assert_eq!(page.status, 200, "{page:?}");
    page.json()["name"].as_str().expect("a name").to_owned()
}

/// An event: its fields by name.
type Event = Vec<(String, String)>;

/// The events of a stream until its end.
fn events(curl: &Curl, path: &str, headers: &[&str]) -> Vec<Event> {
    let arguments: Vec<_> = headers.iter().flat_map(|header| ["--header", header]).collect();
    let mut child = curl.open(path, &[&["--header", "Accept: text/event-stream"], &arguments[..]].concat());
    let (mut events, mut event) = (Vec::new(), Event::new());
    for line in BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok) {
        match line.split_once(": ") {
            Some((name, value)) => event.push((name.to_owned(), value.to_owned())),
            None => events.push(std::mem::take(&mut event)),
        }
    }
    child.wait().expect("curl ends");
    assert!(event.is_empty(), "a whole event at the end");
    events
}

fn field<'e>(event: &'e Event, name: &str) -> Option<&'e str> {
    event.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

fn data(event: &Event) -> Value {
    serde_json::from_str(field(event, "data").expect("data")).expect("JSON")
}

/// The operation that an event of Watch is about.
fn operation(event: &Event) -> Value {
    let data = data(event);
    data.get("update").or(data.get("snapshot")).cloned().unwrap_or_default()
}

#[test]
fn events_follow_an_operation_to_its_end_and_resume() {
    if let Some(process) = monolith() {
        follow_and_resume(&process.curl());
    }
}

pub(super) fn follow_and_resume(curl: &Curl) {
    let title = create(curl, "Metropolis");
    let name = upload(curl, &title);
    let watch = format!("/v1/{name}:watch");
    let all = events(curl, &watch, &[]);
    let last = all.last().expect("events");
    assert_eq!(operation(last)["done"], true, "{all:?}");
    assert_eq!(operation(last)["response"]["artwork"]["titleId"], title["titleId"]);
    let ids: Vec<_> = all.iter().filter_map(|event| field(event, "id")).collect();
    assert_eq!(ids.len(), all.len(), "each has an id");

    let rest = events(curl, &watch, &[&format!("Last-Event-ID: {}", ids[0])]);
    let rest_ids: Vec<_> = rest.iter().filter_map(|event| field(event, "id")).collect();
    assert_eq!(rest_ids.last(), ids.last(), "it ends as before");
    assert!(!rest_ids.contains(&ids[0]), "what was seen does not come again");
    let header = format!("Last-Event-ID: {}", ids.last().expect("an id"));
    let over = curl.send(&watch, &["--header", "Accept: text/event-stream", "--header", &header], b"");
    assert_eq!(over.status, 204, "the end was seen: EventSource stops");
    let address = format!("{watch}?cursor={}", ids[0].replace('+', "%2B").replace('/', "%2F").replace('=', "%3D"));
    let over = curl.send(&address, &["--header", "Accept: text/event-stream", "--header", &header], b"");
    assert_eq!(over.status, 204, "the header is later than the address");
}

#[test]
fn lines_of_json_have_the_same_messages() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let name = upload(&curl, &create(&curl, "Metropolis"));
    events(&curl, &format!("/v1/{name}:watch"), &[]);
    let page = curl.get(&format!("/v1/{name}:watch"));
    assert_eq!(page.header("content-type"), Some("application/x-ndjson"));
    let lines: Vec<Value> = page.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.last().unwrap()["snapshot"]["done"], true, "{lines:?}");
}

#[test]
fn stream_that_cannot_begin_is_answered_like_any_other_call() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    for header in ["Accept: text/event-stream", "Accept: */*"] {
        let watch = format!("/v1/services/artwork/operations/{}:watch", uuid());
        let page = curl.send(&watch, &["--header", header], b"");
        assert_eq!((page.status, page.header("content-type")), (404, Some("application/problem+json")), "{page:?}");
    }
}

#[test]
fn slow_upload_has_more_time_than_a_call() {
    if !Curl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__EDGE__DEADLINE", "1s")]);
    let curl = process.curl();
    let title = create(&curl, "Metropolis");
    let (picture, key) = (small_picture(), format!("Idempotency-Key: {}", uuid()));
    // Half of the picture a second.
    let rate = (picture.len() / 2).to_string();
    let arguments = ["--limit-rate", &rate, "--header", "Content-Type: image/png", "--header", &key];
    let arguments = [&arguments[..], &["--data-binary", "@-"]].concat();
    let page = curl.send(&format!("{}/artwork:upload", path_of(&title)), &arguments, &picture);
    assert_eq!(page.status, 200, "{page:?}");
}

#[test]
fn picture_is_uploaded_and_shown_as_it_is() {
    let Some(process) = monolith() else { return };
    let curl = process.curl();
    let title = create(&curl, "Metropolis");
    let upload_path = format!("{}/artwork:upload", path_of(&title));
    for (name, arguments) in [
        ("a form", &["--header", "Content-Type: application/x-www-form-urlencoded"][..]),
        ("no type", &["--header", "Content-Type:"]),
    ] {
        let key = format!("Idempotency-Key: {}", uuid());
        let arguments = [arguments, &["--header", &key, "--data-binary", "@-"]].concat();
        assert_eq!(curl.send(&upload_path, &arguments, &small_picture()).status, 415, "{name}");
    }
    let name = upload(&curl, &title);
    events(&curl, &format!("/v1/{name}:watch"), &[]);
    let shown = curl.get(&format!("{}/renditions/SIZE_MOBILE", path_of(&title)));
    assert_eq!((shown.status, shown.header("content-type")), (200, Some("image/jpeg")), "{:?}", shown.text());
    assert_eq!(shown.header("x-content-type-options"), Some("nosniff"));
    assert!(shown.body.starts_with(&[0xff, 0xd8]), "a JPEG");
    let tag = format!("If-None-Match: {}", shown.header("etag").expect("an ETag"));
    let again = curl.send(&format!("{}/renditions/SIZE_MOBILE", path_of(&title)), &["--header", &tag], b"");
    assert_eq!(again.status, 304);
}
