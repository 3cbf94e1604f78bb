//! A stream of messages as lines of JSON, for programs that read no events.
//!
//! A failure after the first line is a last line `{"@status": …}`, which is no message: no field can have that name.

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use tonic::Status;
use tonic::body::Body;
use transcode::Schema;

use crate::call::Messages;
use crate::contract::Route;
use crate::stream::{Step, frames};

/// The answer with a stream.
pub(crate) fn answer(route: Route, schema: Schema, messages: Messages) -> Response<Body> {
    let body = frames(messages, move |step, out| match step {
        Step::Message(wire) => {
            route.json(wire, out)?;
            out.push(b'\n');
            Ok(())
        }
        Step::End => Ok(()),
        Step::Failed(status) => {
            out.extend_from_slice(b"{\"@status\":");
            out.extend_from_slice(&status_json(&schema, status));
            out.extend_from_slice(b"}\n");
            Ok(())
        }
    });
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The members of `google.rpc.Status`.
pub(crate) fn status_json(schema: &Schema, status: &Status) -> Vec<u8> {
    transcode::status(schema, status.code() as i32, status.message(), status.details())
}
