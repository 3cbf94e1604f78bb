use serde_json::{Value as Json, json};

use super::{FromHeader, Input};
use crate::library;

const NO_HEADERS: &[(&str, &str)] = &[];

/// The request of a method as JSON, from `GET /path?query`, or its mistakes as `field: description`.
#[track_caller]
fn request(line: &str, body: Input<'_>, headers: &[(&str, &str)]) -> Result<Json, Vec<String>> {
    let routes = library::routes();
    let (http_method, target) = line.split_once(' ').expect("a method and a target");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let matched = routes.find(http_method, path).unwrap_or_else(|miss| panic!("{line}: {miss:?}"));
    let mut wire = b"before".to_vec();
    let headers: Vec<_> =
        headers.iter().map(|(field, value)| FromHeader { header: "If-Match", field, value }).collect();
    if let Err(bad) = matched.request(query, body, &headers, &mut wire) {
        assert_eq!(wire, b"before", "{line}: a refused request writes nothing");
        return Err(bad.violations.iter().map(|found| format!("{}: {}", found.field, found.description)).collect());
    }
    let mut written = Vec::new();
    matched.binding.input.to_json(&wire[6..], &mut written).unwrap_or_else(|error| panic!("{line}: {error}"));
    Ok(serde_json::from_slice(&written).expect("JSON"))
}

#[track_caller]
fn get(target: &str) -> Result<Json, Vec<String>> {
    request(&format!("GET {target}"), Input::Empty, NO_HEADERS)
}

#[track_caller]
fn mistakes(target: &str) -> Vec<String> {
    get(target).expect_err(target)
}

#[test]
fn bind_decodes_what_the_path_has() {
    let id = |target: &str| get(target).map(|request| request["bookId"].clone());
    assert_eq!(id("/v1/books/a%2Fb+%C3%A4:c"), Ok(json!("a/b+ä:c")));
    let name = |target: &str| get(target).map(|request| request["name"].clone());
    assert_eq!(name("/v1/shelves/a%2Fb/books/c%20d"), Ok(json!("shelves/a%2Fb/books/c d")), "%2F is no separator");
    assert_eq!(name("/v1/files/a/b%2f:c:read"), Ok(json!("a/b%2f:c")));
}

#[test]
fn bind_takes_fields_of_the_query_by_both_names() {
    let request =
        get("/v1/books?page_size=5&pageToken=a%20b+c&genres=GENRE_CRIME&genres=1&filter.author=x&lent=true").unwrap();
    assert_eq!((&request["pageSize"], &request["pageToken"]), (&json!(5), &json!("a b+c")));
    assert_eq!(request["genres"], json!(["GENRE_CRIME", "GENRE_FANTASY"]));
    assert_eq!((&request["filter"]["author"], &request["lent"]), (&json!("x"), &json!(true)));
    let request =
        get("/v1/books?&filter.since=2024-01-31T12:00:00Z&filter.but.but.shelf=%26&readMask=nextPageToken&").unwrap();
    assert_eq!(request["filter"]["since"], "2024-01-31T12:00:00Z");
    assert_eq!(request["filter"]["but"]["but"]["shelf"], "&");
    assert_eq!(request["readMask"], "nextPageToken");
}

#[test]
fn bind_reports_all_mistakes_of_a_query() {
    let found =
        mistakes("/v1/books?no=1&filter.no=1&page_size=x&lent=&lent=true&lent=true&labels=1&anything=1&filter=1");
    let expected = [
        "no: ",
        "filter.no: ",
        "page_size: ",
        "lent: ",
        "lent: takes one value",
        "lent: takes one value",
        "labels: ",
        "anything: ",
        "filter: ",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} starts with {expected}");
    }
    for broken in
        ["page_token=%zz", "page_token=%00", "page_token=%ff", "%zz=1", "=1", ".=1", "filter.=1", "filter..author=1"]
    {
        assert_eq!(mistakes(&format!("/v1/books?{broken}")).len(), 1, "{broken}");
    }
}

#[test]
fn bind_takes_one_member_of_a_oneof() {
    assert_eq!(
        mistakes("/v1/books?filter.shelf=a&filter.reader=b"),
        ["filter.reader: is one of the fields of by, and another is given"]
    );
    assert!(get("/v1/books?filter.shelf=a&filter.but.reader=b").is_ok(), "another message");
}

#[test]
fn bind_refuses_in_the_query_what_path_and_body_have() {
    assert_eq!(mistakes("/v1/books/a?book_id=b"), ["book_id: is a field of the path"]);
    let post = |query: &str| request(&format!("POST /v1/books?{query}"), Input::Json(b"{}"), NO_HEADERS);
    assert_eq!(post("request_id=a"), Err(vec!["request_id: is a field of the body".to_owned()]));
    let patch = |query: &str| request(&format!("PATCH /v1/books/a?{query}"), Input::Json(b"{}"), NO_HEADERS);
    assert_eq!(patch("book.name=a"), Err(vec!["book.name: is a field of the body".to_owned()]));
    assert!(patch("validate_only=true").is_ok());
    let raw = Input::Raw { content_type: "image/png", data: b"x" };
    let upload = request("POST /v1/books/a/cover:upload?request_id=a", raw, NO_HEADERS);
    assert_eq!(upload, Err(vec!["request_id: is given by the header Idempotency-Key alone".to_owned()]));
}

#[test]
fn bind_bounds_depth_and_number_of_mistakes() {
    let deep = |levels: usize| format!("/v1/books?filter{}.author=x", ".but".repeat(levels));
    assert!(get(&deep(30)).is_ok());
    assert!(mistakes(&deep(31))[0].ends_with("has more than 32 names"));
    assert!(mistakes(&deep(10_000))[0].ends_with("has more than 32 names"));
    assert_eq!(mistakes(&format!("/v1/books?{}", "x&".repeat(20_000))).len(), 64);
}

#[test]
fn bind_lets_the_path_win_over_the_body() {
    let body = br#"{"bookId": "body", "name": "n", "author": {"name": "a"}}"#;
    let request = request("PATCH /v1/books/path", Input::Json(body), NO_HEADERS).unwrap();
    assert_eq!((&request["book"]["bookId"], &request["book"]["name"]), (&json!("path"), &json!("n")));
    assert_eq!(request["book"]["author"]["name"], "a");
}

#[test]
fn bind_takes_bodies_as_the_rule_says() {
    let raw = Input::Raw { content_type: "image/png", data: b"abc" };
    let image = request("POST /v1/books/a/cover:upload", raw, NO_HEADERS).unwrap();
    assert_eq!((&image["bookId"], &image["image"]), (&json!("a"), &json!("YWJj")));
    let scan = request("POST /v1/books/a/scan", raw, NO_HEADERS).unwrap();
    assert_eq!(scan["scan"]["contentType"], "image/png");
    assert_eq!(scan["scan"]["data"], "YWJj");
    let one = |line, body| request(line, body, NO_HEADERS).expect_err(line);
    assert_eq!(one("GET /v1/books", Input::Json(b"{}")), [": the method takes no body"]);
    assert_eq!(one("POST /v1/books", raw), [": the method takes JSON"]);
    assert!(one("POST /v1/books", Input::Json(br#"{"book": {"no": 1}}"#))[0].starts_with("book.no: "));
    assert!(one("PATCH /v1/books/a", Input::Json(br#"{"no": 1}"#))[0].starts_with("book.no: "));
    assert!(request("POST /v1/books", Input::Empty, NO_HEADERS).is_ok());
}

#[test]
fn bind_around_a_body_gives_the_same_wire() {
    let routes = library::routes();
    let headers = [FromHeader { header: "Idempotency-Key", field: "request_id", value: "id" }];
    for path in ["/v1/books/a/cover:upload", "/v1/books/a/scan"] {
        let matched = routes.find("POST", path).expect("a binding");
        let mut whole = Vec::new();
        matched.request(None, Input::Raw { content_type: "image/png", data: &[7; 300] }, &headers, &mut whole).unwrap();
        let (before, after) = matched.request_around(None, "image/png", 300, &headers).unwrap();
        assert_eq!([&before[..], &[7; 300], &after[..]].concat(), whole);
    }
    let matched = routes.find("POST", "/v1/books").expect("a binding");
    assert!(matched.request_around(None, "image/png", 3, &headers).is_err());
}

#[test]
fn bind_takes_a_header_unless_the_request_differs() {
    let id = |body: &[u8], headers: &[(&str, &str)]| {
        request("POST /v1/books", Input::Json(body), headers).map(|request| request["requestId"].clone())
    };
    assert_eq!(id(b"{}", &[("request_id", "a")]), Ok(json!("a")));
    assert_eq!(id(br#"{"requestId": ""}"#, &[("request_id", "a")]), Ok(json!("a")));
    assert_eq!(id(br#"{"requestId": "a"}"#, &[("request_id", "a")]), Ok(json!("a")));
    assert_eq!(id(br#"{"requestId": "b"}"#, &[("request_id", "a")]).unwrap_err().len(), 1);
    let revision = |body: &[u8], value| {
        let request = request("PATCH /v1/books/a", Input::Json(body), &[("book.revision", value)]);
        request.map(|request| request["book"]["revision"].clone())
    };
    assert_eq!(revision(b"{}", "3"), Ok(json!("3")));
    assert_eq!(revision(br#"{"revision": 3}"#, "3"), Ok(json!("3")));
    let different = "book.revision: has another value than the header If-Match".to_owned();
    assert_eq!(revision(br#"{"revision": 4}"#, "3"), Err(vec![different]));
    let malformed = "If-Match: must be a whole number of 64 bits, not \"x\"".to_owned();
    assert_eq!(revision(b"{}", "x"), Err(vec![malformed]));
}

#[test]
fn bind_derives_the_mask_of_a_patch() {
    let mask = |target: &str, body: &str| {
        let request = request(&format!("PATCH {target}"), Input::Json(body.as_bytes()), &[("book.revision", "3")]);
        request.unwrap_or_else(|bad| panic!("{body}: {bad:?}"))["updateMask"].clone()
    };
    for (body, expected) in [
        (r#"{"name": "", "priceCents": null}"#, "name,priceCents"),
        (r#"{"bookId": "x", "createTime": "2024-01-31T12:00:00Z", "revision": "3", "name": "n"}"#, "name"),
        (r#"{"author": {"email": null}, "tags": [], "copies": {}}"#, "author.email,tags,copies"),
        (r#"{"author": null, "loan": "1s", "notes": {"a": 1}, "nickname": null}"#, "author,loan,notes,nickname"),
        (r#"{"sequelOf": {"price_cents": 0, "bookId": "b"}}"#, "sequelOf.priceCents"),
        (r#"{"author": {}}"#, ""),
    ] {
        assert_eq!(mask("/v1/books/a", body), expected, "{body}");
    }
    assert_eq!(mask("/v1/books/a?updateMask=tags", r#"{"name": "n"}"#), "tags", "the caller's mask stands");
}

#[test]
fn bind_answers_with_the_response_body() {
    let routes = library::routes();
    let binding = routes.find("GET", "/v1/books/a").expect("a binding").binding;
    let book = |wire: &[u8]| {
        let mut json = Vec::new();
        binding.response(wire, &mut json).map(|()| serde_json::from_slice::<Json>(&json).expect("JSON"))
    };
    assert_eq!(book(b"\x0a\x03\x0a\x01a").unwrap()["bookId"], "a");
    let merged = book(b"\x0a\x03\x0a\x01a\x0a\x03\x12\x01n").unwrap();
    assert_eq!((&merged["bookId"], &merged["name"]), (&json!("a"), &json!("n")));
    assert_eq!(book(b"").unwrap()["name"], "");
    assert!(book(b"\x0a\x03").is_err());
}

#[test]
fn bind_survives_mutated_requests() {
    let routes = library::routes();
    let mut random = fastrand::Rng::with_seed(11);
    let parts = [
        "&",
        "=",
        ".",
        "filter",
        "but",
        "author",
        "%",
        "%41",
        "%zz",
        "+",
        "pageSize",
        "1",
        "-",
        "genres",
        "GENRE_CRIME",
        "years",
        "1e400",
        "readMask",
        "a,b",
        "filter.since",
        "2024-01-31T12:00:00Z",
        "lent",
        "true",
        "é",
        "%00",
    ];
    let matched = routes.find("GET", "/v1/books").expect("a binding");
    let (mut taken, mut wire, mut json) = (0, Vec::new(), Vec::new());
    for _ in 0..400_000 {
        let count = random.usize(0..12);
        let query: String = (0..count).map(|_| parts[random.usize(..parts.len())]).collect();
        wire.clear();
        if matched.request(Some(&query), Input::Empty, &[], &mut wire).is_ok() {
            taken += 1;
            json.clear();
            matched.binding.input.to_json(&wire, &mut json).unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
    assert!(taken > 4_000, "{taken} queries were taken");
}
