//! Errors as `application/problem+json` (RFC 9457), with the members of `google.rpc.Status` beside them.
//!
//! Guarantees:
//! - Every error has a body. A detail whose type the schema does not have is written as base64.
//! - Does not: choose the HTTP status. [`http_status`](crate::http_status) proposes one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_types::Any;

use crate::code;
use crate::json::{Json, Object};
use crate::table::Schema;

/// Writes an error as `application/problem+json`.
///
/// - `http`: the status of HTTP. `code`: the code of gRPC. `message`: what went wrong, for the caller.
/// - `details`: a `google.rpc.Status`, as `grpc-status-details-bin` has it. Empty if there is none.
///
/// The type of an error with a `google.rpc.ErrorInfo` is `/errors/{domain}/{reason}`, of another `about:blank`.
pub fn problem(schema: &Schema, http: u16, code: i32, message: &str, details: &[u8]) -> Vec<u8> {
    let details = Details::read(details);
    let (kind, title) = match details.info() {
        Some(info) => (format!("/errors/{}/{}", info.domain, info.reason), code::title(&info.reason)),
        None => ("about:blank".to_owned(), phrase(http).to_owned()),
    };
    Object::new()
        .with("type", kind)
        .with("title", title)
        .with("status", i64::from(http))
        .with_some("detail", message)
        .and(members(schema, code, message, &details))
        .to_bytes()
}

/// Writes the members of `google.rpc.Status` alone, for an error behind the messages of a stream.
pub fn status(schema: &Schema, code: i32, message: &str, details: &[u8]) -> Vec<u8> {
    members(schema, code, message, &Details::read(details)).to_bytes()
}

fn members(schema: &Schema, code: i32, message: &str, details: &Details) -> Object {
    let details: Vec<_> = details.0.iter().map(|any| detail(any, schema)).collect();
    Object::new().with("code", i64::from(code)).with("message", message).with("details", details)
}

struct Details(Vec<Any>);

impl Details {
    /// An error whose details cannot be read is still an error.
    fn read(status: &[u8]) -> Self {
        Self(Status::decode(status).map(|status| status.details).unwrap_or_default())
    }

    /// The reason of the error, if a URL can have it.
    fn info(&self) -> Option<ErrorInfo> {
        let name = |any: &&Any| any.type_url.rsplit('/').next() == Some("google.rpc.ErrorInfo");
        let info = ErrorInfo::decode(self.0.iter().find(name)?.value.as_slice()).ok()?;
        (is_segment(&info.reason) && is_segment(&info.domain)).then_some(info)
    }
}

/// Whether a text can stand in a URL as it is.
fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A detail as JSON, with its `@type`.
fn detail(any: &Any, schema: &Schema) -> Json {
    let mut json = Vec::new();
    let written = schema.message("google.protobuf.Any").map(|of| of.to_json(&any.encode_to_vec(), &mut json));
    let text = written.and_then(Result::ok).and_then(|()| String::from_utf8(json).ok());
    match text.and_then(|json| serde_json::value::RawValue::from_string(json).ok()) {
        Some(json) => Json::Raw(json),
        None => {
            let value = STANDARD.encode(&any.value);
            Object::new().with("@type", any.type_url.as_str()).with("value", value).into()
        }
    }
}

/// The reason phrase of a status.
fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        402..=498 => "Client Error",
        _ => "Internal Server Error",
    }
}

/// `google.rpc.Status`, as far as it is read here.
#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.rpc.ErrorInfo`, as far as it is read here.
#[derive(Clone, PartialEq, prost::Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::library;
    use serde_json::{Value, json};

    fn schema() -> Schema {
        Schema::new(&library::pool(library::PROTO))
    }

    fn details(info: &ErrorInfo, other: &[u8]) -> Vec<u8> {
        let any = |name: &str, value: Vec<u8>| Any { type_url: format!("type.googleapis.com/{name}"), value };
        let details = vec![any("google.rpc.ErrorInfo", info.encode_to_vec()), any("unknown.v1.Type", other.to_vec())];
        Status { details }.encode_to_vec()
    }

    fn written(details: &[u8]) -> Value {
        serde_json::from_slice(&problem(&schema(), 404, 5, "no \"book\"", details)).expect("the problem is JSON")
    }

    #[test]
    fn problem_has_the_members_of_both_forms() {
        let info = ErrorInfo { reason: "BOOK_NOT_FOUND".to_owned(), domain: "library".to_owned() };
        let problem = written(&details(&info, b"abc"));
        assert_eq!(
            (&problem["type"], &problem["title"]),
            (&json!("/errors/library/BOOK_NOT_FOUND"), &json!("Book not found"))
        );
        assert_eq!((&problem["status"], &problem["detail"]), (&json!(404), &json!("no \"book\"")));
        assert_eq!((&problem["code"], &problem["message"]), (&json!(5), &json!("no \"book\"")));
        assert_eq!(problem["details"][1], json!({"@type": "type.googleapis.com/unknown.v1.Type", "value": "YWJj"}));
    }

    #[test]
    fn problem_without_readable_details_has_a_body() {
        for details in [&b""[..], b"\xff\xff", b"\x1a\x02\x0a\x00"] {
            let problem = written(details);
            assert_eq!((&problem["type"], &problem["title"]), (&json!("about:blank"), &json!("Not Found")));
        }
    }

    #[test]
    fn problem_type_takes_no_text_that_a_url_needs_encoded() {
        let info = ErrorInfo { reason: "A/../B".to_owned(), domain: "x\"y".to_owned() };
        assert_eq!(written(&details(&info, b""))["type"], "about:blank");
    }
}
