//! A stream of messages as server-sent events ([HTML](https://html.spec.whatwg.org/multipage/server-sent-events.html)).
//!
//! Guarantees:
//! - Each event whose message has a cursor has it as its `id`. A browser that reconnects sends the last one, and the
//!   stream goes on behind it.
//! - A failure that may pass is an event `status` of a stream that ended, never a 503: EventSource gives up at a 503.
//! - A client that resumes behind the end is answered with 204, at which EventSource stops.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use transcode::Schema;

use crate::call::Messages;
use crate::contract::Route;
use crate::ndjson::status_json;
use crate::stream::{Step, frames};

/// The media type.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// The answer with a stream that has begun.
pub(crate) fn answer(route: Route, schema: Schema, messages: Messages) -> Response<Body> {
    let mut json = Vec::new();
    response(frames(messages, move |step, out| {
        json.clear();
        match step {
            Step::Message(wire) => {
                let shape = route.shape();
                if shape.is_heartbeat(wire) {
                    out.extend_from_slice(b"event: heartbeat\n");
                }
                if let Some(cursor) = shape.cursor(wire) {
                    out.extend_from_slice(b"id: ");
                    out.extend_from_slice(cursor.as_bytes());
                    out.push(b'\n');
                }
                route.json(wire, &mut json)?;
                data(&json, out);
            }
            Step::End => {}
            Step::Failed(status) => failed(&schema, status, out),
        }
        Ok(())
    }))
}

/// The answer with a failure before the first message. `None`: the failure is answered as that of any other call.
pub(crate) fn failure(schema: &Schema, status: &Status) -> Option<Response<Body>> {
    may_pass(status).then(|| {
        let mut out = Vec::new();
        failed(schema, status, &mut out);
        response(Body::new(Full::new(out.into())))
    })
}

/// The answer to a client that has seen the end.
pub(crate) fn over() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx buffers an answer without this header.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// JSON has no line feeds of its own.
fn data(json: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json);
    out.extend_from_slice(b"\n\n");
}

fn failed(schema: &Schema, status: &Status, out: &mut Vec<u8>) {
    let delay = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    if let Some(delay) = delay {
        out.extend_from_slice(format!("retry: {}\n", delay.as_millis()).as_bytes());
    }
    out.extend_from_slice(b"event: status\n");
    data(&status_json(schema, status), out);
}

/// Whether a client should come again.
fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::Unknown
    )
}
