//! Answers in JSON, and errors in it.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Longer texts are cut for the page, in bytes.
const LONGEST: usize = 4096;

/// An answer with JSON.
pub(crate) fn json(value: &Value) -> Response<Body> {
    of(StatusCode::OK, value)
}

/// The failure of a call: its status in HTTP and in gRPC.
pub(crate) fn failure(status: &Status) -> Response<Body> {
    let http = StatusCode::from_u16(transcode::http_status(status.code() as i32));
    of(http.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &json!({"error": error(status)}))
}

/// A refusal of the page itself.
pub(crate) fn refusal(http: StatusCode, code: Code, reason: &str, message: &str) -> Response<Body> {
    of(http, &json!({"error": {"code": transcode::code_name(code as i32), "reason": reason, "message": message}}))
}

/// A status as the page shows it.
pub(crate) fn error(status: &Status) -> Value {
    json!({"code": transcode::code_name(status.code() as i32), "reason": reason(status), "message": cut(status.message())})
}

/// The reason of a status; empty if it has none.
pub(crate) fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// A text that is not too long to show.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

fn of(http: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(value.to_string()))));
    *response.status_mut() = http;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
