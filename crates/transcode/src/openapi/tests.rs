use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Answer, Bearer, Info, document};
use crate::binding::Binding;
use crate::{Routes, Schema, library};

const INFO: Info<'_> = Info {
    title: "Library",
    version: "1.2.3",
    server: "",
    bearer: Bearer {
        methods: &[
            ("/library.v1.Library/CreateBook", &["library.write", "library.read"]),
            ("/library.v1.Library/GetBook", &[]),
        ],
        description: "A token for tests.",
        failures: &[(16, "TOKEN_MISSING"), (16, "TOKEN_EXPIRED"), (7, "CALLER_NOT_ALLOWED")],
        scope_failures: &[(7, "SCOPE_MISSING")],
    },
    answer,
    failures: &[(8, "TOO_FAST"), (14, "RESTS")],
};

/// A server with a domain for what all services share, and with a status for a header.
fn answer(binding: &Binding, code: i32, reason: &str) -> Answer {
    let answer = Answer::by_code(binding, code, reason);
    match reason {
        "REQUEST_ID_REUSED" | "TOO_FAST" | "RESTS" => Answer { domain: "shared".to_owned(), ..answer },
        "STALE_REVISION" => Answer { statuses: vec![400, 412], ..answer },
        _ => answer,
    }
}

fn library() -> Value {
    serde_json::from_slice(&document(&library::routes(), INFO)).expect("the document is JSON")
}

/// All values of a key, at any depth.
fn values<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get(key));
            members.values().for_each(|value| values(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|value| values(value, key, found)),
        _ => {}
    }
}

#[test]
fn openapi_document_is_the_same_each_time() {
    assert_eq!(document(&library::routes(), INFO), document(&library::routes(), INFO));
    let document = library();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"], json!({"title": "Library", "version": "1.2.3"}));
    assert_eq!(
        document["tags"],
        json!([{"name": "library.v1.Library", "description": "Lends books. Other services read them."}])
    );
    assert_eq!(document["security"], json!([]));
}

#[test]
fn openapi_says_which_methods_need_a_token_and_which_scopes() {
    let document = library();
    let scheme =
        json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token for tests."});
    assert_eq!(document["components"]["securitySchemes"], json!({"bearer": scheme}));
    let (create, get) = (&document["paths"]["/v1/books"]["post"], &document["paths"]["/v1/books/{bookId}"]["get"]);
    assert_eq!(create["security"], json!([{"bearer": ["library.write", "library.read"]}]));
    let needed = "Needs a bearer token with the scopes `library.write` and `library.read`.";
    assert!(create["description"].as_str().is_some_and(|text| text.ends_with(needed)), "{create:#}");
    assert_eq!((&get["security"], &get["description"]), (&json!([{"bearer": []}]), &json!("Needs a bearer token.")));
    let reasons = |method: &Value, status: &str| {
        let examples = method["responses"][status]["content"]["application/problem+json"]["examples"].clone();
        examples.as_object().map(|examples| examples.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    for method in [create, get] {
        assert_eq!(reasons(method, "401"), ["TOKEN_EXPIRED", "TOKEN_MISSING"]);
        assert!(method["responses"]["401"]["headers"]["WWW-Authenticate"].is_object());
    }
    assert_eq!(reasons(create, "403"), ["CALLER_NOT_ALLOWED", "SCOPE_MISSING"]);
    assert_eq!(reasons(get, "403"), ["CALLER_NOT_ALLOWED"]);
    let public = &document["paths"]["/v1/books/{bookId}"]["delete"];
    assert!(
        public["responses"]["200"].is_object() && public["security"].is_null() && reasons(public, "401").is_empty()
    );
}

#[test]
fn openapi_references_lead_to_schemas_and_schemas_are_referred_to() {
    let document = library();
    let mut references = Vec::new();
    values(&document, "$ref", &mut references);
    let names = references.iter().map(|name| name.as_str().and_then(|name| name.strip_prefix("#/components/schemas/")));
    let names: BTreeSet<_> = names.map(|name| name.expect("a reference to a schema").to_owned()).collect();
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    assert_eq!(names, schemas.keys().cloned().collect());
    assert!(!names.iter().any(|name| name.starts_with("google.protobuf.")), "{names:?}");
}

#[test]
fn openapi_operations_have_ids_and_parameters_of_their_paths() {
    let document = library();
    let mut ids = Vec::new();
    values(&document["paths"], "operationId", &mut ids);
    let distinct: BTreeSet<_> = ids.iter().map(|id| id.as_str()).collect();
    assert_eq!(distinct.len(), ids.len());
    assert_eq!(ids.len(), library::routes().bindings().len());
    for (path, item) in document["paths"].as_object().expect("paths") {
        let braced = path.split('{').skip(1).filter_map(|part| part.split('}').next()).collect::<BTreeSet<_>>();
        for operation in item.as_object().expect("an item").values() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_path = parameters.filter(|parameter| parameter["in"] == "path");
            let names: BTreeSet<_> = of_path.filter_map(|parameter| parameter["name"].as_str()).collect();
            assert_eq!(names, braced, "{path}");
        }
    }
}

#[test]
fn openapi_path_is_shared_by_bindings_that_name_other_fields() {
    let paths = library()["paths"].clone();
    let book = paths["/v1/books/{bookId}"].as_object().expect("a path");
    assert_eq!(book.keys().collect::<Vec<_>>(), ["delete", "get", "patch"]);
    assert!(paths["/v1/shelves/{shelve}/books/{book}"]["get"].is_object(), "{paths:#}");
    assert!(paths["/v1/files/{name}:read"]["get"].is_object());
    assert_eq!(paths["/v1/talk"]["x-websocket"]["send"]["$ref"], "#/components/schemas/library.v1.Nothing");
}

#[test]
fn openapi_describes_errors_as_the_comment_does() {
    let document = library();
    let get = &document["paths"]["/v1/books/{bookId}"]["get"];
    assert_eq!(get["summary"], "Gives one book");
    assert_eq!(get["description"], "Needs a bearer token.");
    let responses = get["responses"].as_object().expect("responses");
    assert_eq!(responses.keys().collect::<Vec<_>>(), ["200", "400", "401", "403", "404", "default"]);
    let missing = &responses["404"];
    assert_eq!(missing["description"], "NOT_FOUND: BOOK_NOT_FOUND.");
    let example = &missing["content"]["application/problem+json"]["examples"]["BOOK_NOT_FOUND"]["value"];
    assert_eq!(example["type"], "/errors/library/BOOK_NOT_FOUND");
    assert_eq!(
        (&example["title"], &example["status"], &example["code"]),
        (&json!("Book not found"), &json!(404), &json!(5))
    );
}

/// The types of the examples of an answer.
fn types(answer: &Value) -> Vec<&str> {
    let examples = answer["content"]["application/problem+json"]["examples"].as_object().expect("examples");
    examples.values().filter_map(|example| example["value"]["type"].as_str()).collect()
}

#[test]
fn openapi_errors_have_the_status_and_the_domain_of_the_server() {
    let paths = library()["paths"].clone();
    let create = &paths["/v1/books"]["post"]["responses"];
    assert_eq!(types(&create["400"]), ["/errors/library/INVALID_FIELDS", "/errors/shared/REQUEST_ID_REUSED"]);
    let patch = &paths["/v1/books/{bookId}"]["patch"]["responses"];
    for status in ["400", "412"] {
        assert_eq!(types(&patch[status]), ["/errors/library/STALE_REVISION"], "{status}");
        let example = &patch[status]["content"]["application/problem+json"]["examples"]["STALE_REVISION"]["value"];
        assert_eq!(example["status"].to_string(), status);
    }
    let other = &create["default"];
    assert_eq!(types(other), ["/errors/shared/RESTS", "/errors/shared/TOO_FAST"]);
    let statuses = ["TOO_FAST", "RESTS"]
        .map(|reason| other["content"]["application/problem+json"]["examples"][reason]["value"]["status"].clone());
    assert_eq!(statuses, [429, 503]);
}

#[test]
fn openapi_headers_that_give_a_field_are_parameters() {
    let document = library();
    let header = |path: &str, method: &str, name: &str| {
        let parameters = document["paths"][path][method]["parameters"].as_array().cloned().unwrap_or_default();
        parameters.into_iter().find(|found| found["in"] == "header" && found["name"] == name)
    };
    let key = header("/v1/books", "post", "Idempotency-Key").expect("the method has a request_id");
    assert_eq!((&key["schema"], key.get("required")), (&json!({"type": "string", "format": "uuid"}), None));
    let create = &document["components"]["schemas"]["library.v1.CreateBookRequest"];
    assert_eq!(create["required"], json!(["book"]), "the header may give the request_id");
    let raw = header("/v1/books/{bookId}/cover:upload", "post", "Idempotency-Key").expect("a request_id");
    assert_eq!(raw["required"], true, "nothing else gives the request_id");
    let tag = header("/v1/books/{bookId}", "patch", "If-Match").expect("the request has a revision");
    assert_eq!(tag["schema"]["pattern"], "^(W/)?\"[0-9]+\"$");
    assert!(tag["description"].as_str().is_some_and(|text| text.contains("`revision`")), "{tag}");
    assert_eq!(header("/v1/books/{bookId}", "delete", "If-Match"), None, "the request has no revision");
}

#[test]
fn openapi_schema_has_types_and_behaviour_of_its_fields() {
    let document = library();
    let book = &document["components"]["schemas"]["library.v1.Book"];
    assert_eq!(book["required"], json!(["name"]));
    assert_eq!(book["description"], "A book.\n\nAt most one of `shelf`, `reader` has a value.");
    let fields = &book["properties"];
    assert_eq!(fields["bookId"], json!({"type": "string", "description": "A UUID.", "readOnly": true}));
    assert_eq!((&fields["priceCents"]["type"], &fields["priceCents"]["format"]), (&json!("string"), &json!("int64")));
    assert_eq!(fields["createTime"]["format"], "date-time");
    assert_eq!(fields["digest"]["contentEncoding"], "base64");
    assert_eq!(fields["sequelOf"]["$ref"], "#/components/schemas/library.v1.Book");
    assert_eq!(fields["copies"]["additionalProperties"]["format"], "int64");
    let genre = &document["components"]["schemas"]["library.v1.Genre"];
    assert_eq!(genre["enum"], json!(["GENRE_UNSPECIFIED", "GENRE_FANTASY", "GENRE_CRIME"]));
    let described = "What a book is about.\n- `GENRE_UNSPECIFIED`: Not known.\n- `GENRE_FANTASY`: Dragons.";
    assert_eq!(genre["description"], described);
}

/// What is left of a schema without its type and what says how to read it.
fn bounds(schema: &Value) -> Value {
    let mut schema = schema.clone();
    for key in ["type", "description", "contentEncoding"] {
        schema.as_object_mut().expect("a schema").remove(key);
    }
    schema
}

#[test]
fn openapi_schema_has_the_bounds_of_its_fields() {
    let fields = library()["components"]["schemas"]["library.v1.Book"]["properties"].clone();
    assert_eq!(bounds(&fields["name"]), json!({"minLength": 1, "maxLength": 200}));
    let price = json!({"format": "int64", "pattern": "^([0-9]|[1-9][0-9]|[1-9][0-9]{2})$"});
    assert_eq!(bounds(&fields["priceCents"]), price);
    assert_eq!(bounds(&fields["tags"]), json!({"maxItems": 9, "items": {"type": "string", "pattern": "^[a-z]+$"}}));
    assert_eq!(bounds(&fields["digest"]), json!({"maxLength": 44}), "32 bytes in base64, padded");
    assert_eq!(bounds(&fields["loan"]), json!({"pattern": r"^[0-9]{1,11}(\.[0-9]{1,9})?s$"}));
}

#[test]
fn openapi_schema_allows_the_zero_that_a_field_has_when_it_is_absent() {
    let document = library();
    let fields = &document["components"]["schemas"]["library.v1.Book"]["properties"];
    assert_eq!(bounds(&fields["year"]), json!({"format": "int32", "minimum": i32::MIN, "maximum": 2100}));
    assert_eq!(bounds(&fields["owner"]), json!({}));
    let patch = &document["paths"]["/v1/books/{bookId}"]["patch"]["requestBody"];
    let fields = &patch["content"]["application/json"]["schema"]["properties"];
    assert_eq!(bounds(&fields["year"]), json!({"format": "int32", "minimum": 1450, "maximum": 2100}));
    assert_eq!(bounds(&fields["owner"]), json!({"format": "uuid"}));
}

#[test]
fn openapi_parameters_have_the_bounds_of_their_fields() {
    let paths = library()["paths"].clone();
    let id = &paths["/v1/books/{bookId}"]["get"]["parameters"][0]["schema"];
    assert_eq!(bounds(id), json!({"format": "uuid"}));
    let query = &paths["/v1/books"]["get"]["parameters"];
    assert_eq!(bounds(&query[0]["schema"]), json!({"format": "int32", "minimum": 0, "maximum": i32::MAX}));
    let items = json!({"type": "integer", "format": "int32", "minimum": i32::MIN, "maximum": 2100});
    assert_eq!(bounds(&query[3]["schema"]), json!({"minItems": 1, "items": items}));
    let genre = json!({"type": "string", "enum": ["GENRE_FANTASY", "GENRE_CRIME"]});
    assert_eq!(query[14]["schema"], genre, "without the value that is not allowed");
}

#[test]
fn openapi_parameter_for_a_segment_has_its_part_of_the_pattern() {
    let paths = library()["paths"].clone();
    let parameters = &paths["/v1/shelves/{shelve}/books/{book}"]["get"]["parameters"];
    let patterns = [0, 1].map(|at| bounds(&parameters[at]["schema"]));
    assert_eq!(patterns, [json!({"pattern": "^[^/]+$"}), json!({"pattern": "^[a-z](/x|-[0-9]+){2}$"})]);
}

#[test]
fn openapi_bodies_leave_out_what_path_and_server_set() {
    let paths = library()["paths"].clone();
    let patch = &paths["/v1/books/{bookId}"]["patch"];
    let schema = &patch["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema.get("required"), None, "a PATCH names what it changes");
    assert!(schema["properties"]["name"].is_object());
    assert_eq!((schema["properties"].get("bookId"), schema["properties"].get("createTime")), (None, None));
    let cover = &paths["/v1/books/{bookId}/cover"]["post"]["requestBody"]["content"]["application/json"]["schema"];
    let names: Vec<_> = cover["properties"].as_object().expect("properties").keys().collect();
    assert_eq!(names, ["image", "requestId", "scan"]);
    let raw = &paths["/v1/books/{bookId}/cover:upload"]["post"];
    assert_eq!(raw["requestBody"]["content"], json!({"*/*": {}}));
    let required = |operation: &Value| operation["requestBody"]["required"].clone();
    assert_eq!(required(&paths["/v1/books"]["post"]), true, "the body has a field that is required");
    assert_eq!(required(&paths["/v1/books/{bookId}/cover"]["post"]), Value::Null, "no field is required");
    let names: Vec<_> = raw["parameters"].as_array().into_iter().flatten().map(|found| &found["name"]).collect();
    assert!(names.contains(&&json!("Idempotency-Key")) && !names.contains(&&json!("requestId")), "{names:?}");
}

#[test]
fn openapi_query_has_the_fields_that_neither_path_nor_body_has() {
    let paths = library()["paths"].clone();
    let parameters = &paths["/v1/books"]["get"]["parameters"];
    let names: Vec<_> =
        parameters.as_array().into_iter().flatten().filter_map(|found| found["name"].as_str()).collect();
    let expected = [
        "pageSize",
        "pageToken",
        "genres",
        "years",
        "filter.author",
        "filter.since",
        "filter.shelf",
        "filter.reader",
        "filter.but.author",
        "filter.but.since",
        "filter.but.shelf",
        "filter.but.reader",
        "readMask",
        "lent",
        "genre",
    ];
    assert_eq!(names, expected);
    assert_eq!(parameters[2]["schema"]["items"]["$ref"], "#/components/schemas/library.v1.Genre");
}

#[test]
fn openapi_answers_have_their_content_types() {
    let paths = library()["paths"].clone();
    let content = |path: &str| paths[path]["get"]["responses"]["200"]["content"].clone();
    let book = json!({"$ref": "#/components/schemas/library.v1.Book"});
    assert_eq!(content("/v1/books/{bookId}")["application/json"]["schema"], book);
    assert_eq!(content("/v1/books/{bookId}/cover"), json!({"*/*": {}}));
    let stream = content("/v1/books/{bookId}:watch");
    assert_eq!(stream["application/x-ndjson"]["schema"]["$ref"], "#/components/schemas/library.v1.BookResponse");
    assert!(stream["text/event-stream"].is_object());
}

/// A method that starts work, and those for the work.
const WORK: &str = r#"
syntax = "proto3";
package library.v1;

import "google/api/annotations.proto";
import "google/longrunning/operations.proto";

service Scanner {
  // Scans a book.
  rpc ScanBook(ScanBookRequest) returns (google.longrunning.Operation) {
    option (google.api.http) = {post: "/v1/books:scan" body: "*"};
    option (google.longrunning.operation_info) = {
      response_type: "ScanBookResponse"
      metadata_type: "google.longrunning.WaitOperationRequest"
    };
  }

  // Names a message that does not exist.
  rpc ScanPage(ScanBookRequest) returns (google.longrunning.Operation) {
    option (google.api.http) = {post: "/v1/pages:scan" body: "*"};
    option (google.longrunning.operation_info) = {response_type: "Page" metadata_type: "ScanBookResponse"};
  }
}

message ScanBookRequest {}
message ScanBookResponse {}
"#;

#[test]
fn openapi_names_the_messages_of_an_operation_and_links_to_its_methods() {
    let pool = library::pool(WORK);
    let routes = Routes::new(&Schema::new(&pool), library::methods(&pool), library::REVISION).expect("the rules hold");
    let document: Value = serde_json::from_slice(&document(&routes, INFO)).expect("the document is JSON");

    let scan = &document["paths"]["/v1/books:scan"]["post"];
    let reference = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let [response, metadata] = ["library.v1.ScanBookResponse", "google.longrunning.WaitOperationRequest"];
    let info = json!({"response": reference(response), "metadata": reference(metadata)});
    assert_eq!(scan["x-operation-info"], info);
    let words = format!("whose `response` is a `{response}`, and whose `metadata` is a `{metadata}`.");
    assert!(scan["description"].as_str().is_some_and(|text| text.ends_with(&words)), "{scan:#}");

    let links = scan["responses"]["200"]["links"].as_object().expect("links");
    let expected = ["CancelOperation", "DeleteOperation", "GetOperation", "WaitOperation"];
    assert_eq!(links.keys().collect::<Vec<_>>(), expected.map(|method| format!("Operations_{method}")).each_ref());
    let mut ids = Vec::new();
    document["paths"].as_object().into_iter().flatten().for_each(|(_, item)| {
        ids.extend(item.as_object().into_iter().flatten().map(|(_, operation)| operation["operationId"].clone()));
    });
    for (id, link) in links {
        assert_eq!(link["operationId"], id.as_str());
        assert!(ids.contains(&json!(id)), "{id} is no operation");
    }

    let page = &document["paths"]["/v1/pages:scan"]["post"];
    assert_eq!((&page["x-operation-info"], &page["responses"]["200"]["links"]), (&Value::Null, &Value::Null));
}
