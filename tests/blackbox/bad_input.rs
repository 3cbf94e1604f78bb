//! The answer to an invalid request: the right code, a reason, every bad field at once, and nothing stored.

use harness::film::{call, create};
use harness::{Grpcurl, Process, uuid};
use serde_json::{Value, json};

/// The fields that a call is refused for, sorted by name.
fn bad_fields(catalog: &Grpcurl, method: &str, request: &Value) -> Vec<String> {
    let answer = catalog.call(&format!("catalog.v1.CatalogService/{method}"), request);
    assert_eq!(answer.failure(), ("InvalidArgument".to_owned(), "INVALID_FIELDS".to_owned()), "{method} {request}");
    let detail = answer.detail("google.rpc.BadRequest");
    let violations = detail["fieldViolations"].as_array().expect("violations");
    let mut fields: Vec<_> = violations.iter().map(|bad| bad["field"].as_str().expect("a field").to_owned()).collect();
    for field in &fields {
        assert!(answer.message().contains(field), "the message does not name {field}: {}", answer.message());
    }
    fields.sort();
    fields
}

#[test]
fn invalid_request_lists_every_bad_field() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let catalog = &process.grpcurl();

    let all_bad =
        json!({"request_id": "1", "name": " ", "synopsis": "x".repeat(5001), "year": 1887, "price_cents": -1});
    assert_eq!(bad_fields(catalog, "CreateTitle", &all_bad), ["name", "price_cents", "request_id", "synopsis", "year"]);
    assert_eq!(bad_fields(catalog, "CreateTitle", &json!({})), ["name", "request_id", "year"]);
    let too_much = json!({"request_id": uuid(), "name": "x".repeat(201), "year": 2101, "price_cents": 1_000_001});
    assert_eq!(bad_fields(catalog, "CreateTitle", &too_much), ["name", "price_cents", "year"]);
    assert_eq!(call(catalog, "ListTitles", &json!({})), json!({}), "nothing is stored");

    for id in ["", "1", "not-a-uuid", "{0199e4a8-0000-7000-8000-000000000000}", "0199e4a8000070008000000000000000"] {
        assert_eq!(bad_fields(catalog, "GetTitle", &json!({"title_id": id})), ["title_id"], "{id}");
        assert_eq!(bad_fields(catalog, "DeleteTitle", &json!({"title_id": id})), ["title_id"], "{id}");
    }

    for token in ["x", "not a token", "bm90IGFuIGlk", "' OR 1=1 --"] {
        let request = json!({"page_size": -1, "page_token": token});
        assert_eq!(bad_fields(catalog, "ListTitles", &request), ["page_size", "page_token"], "{token}");
    }
}

#[test]
fn invalid_update_changes_nothing() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[]);
    let catalog = &process.grpcurl();
    let title = create(catalog, "Metropolis");
    let id = &title["titleId"];
    let update = |title: Value, mask: &[&str]| json!({"title": title, "update_mask": {"paths": mask}});

    assert_eq!(
        bad_fields(
            catalog,
            "UpdateTitle",
            &update(json!({"title_id": "1", "name": " "}), &["name", "nmae", "title_id"])
        ),
        ["title.name", "title.revision", "title.title_id", "update_mask", "update_mask"]
    );
    assert_eq!(
        bad_fields(catalog, "UpdateTitle", &update(json!({"title_id": id, "revision": 1}), &["*"])),
        ["title.name", "title.year"]
    );
    let both = update(json!({"title_id": id, "revision": 1, "name": "M"}), &["*", "name"]);
    assert_eq!(bad_fields(catalog, "UpdateTitle", &both), ["update_mask"], "`*` beside another field, told once");
    assert_eq!(bad_fields(catalog, "UpdateTitle", &json!({"title": {"title_id": id, "revision": 1}})), ["update_mask"]);
    assert_eq!(bad_fields(catalog, "UpdateTitle", &json!({})), ["title.revision", "title.title_id", "update_mask"]);
    assert_eq!(call(catalog, "GetTitle", &json!({"title_id": id}))["title"], title);
}
