//! The answer of a unary call: one JSON document, or bytes with a content type of their own.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, VARY, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use mesh_rpc::call::error::internal;
use prost::Message as _;
use tonic::Status;
use tonic::body::Body;
use transcode::WireError;

use crate::contract::Route;
use crate::headers::takes_gzip;
use crate::memory::hold;
use crate::refusal::Refusal;
use crate::shares::Share;
use crate::validators::{self, weaken};

/// The smallest document that is compressed, in bytes. A smaller one is one packet anyway.
const COMPRESSED_FROM: usize = 1024;
/// Caches keep a document for each encoding.
const BY_ENCODING: HeaderValue = HeaderValue::from_static("accept-encoding");

/// The answer with a message.
///
/// # Errors
///
/// 429: answers that the client does not read take its `memory`. 500: JSON cannot express the message.
pub(crate) fn answer(head: &Parts, route: &Route, message: &Bytes, memory: &Share) -> Result<Response<Body>, Refusal> {
    let (shape, is_raw) = (route.shape(), route.binding().is_raw_response());
    let mut response = if is_raw { raw(message)? } else { json(route, message)? };
    let read = matches!(head.method, Method::GET | Method::HEAD);
    let body = response.body().clone();
    if read {
        let validators = validators::headers(shape, message, &body);
        let known = validators::is_known(&head.headers, &validators);
        response.headers_mut().extend(validators);
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response.headers_mut().remove(CONTENT_TYPE);
            if !is_raw {
                response.headers_mut().insert(VARY, BY_ENCODING);
            }
            return Ok(response.map(|_| Body::empty()));
        }
    } else if let Some(tag) = validators::revision_tag(shape, message) {
        response.headers_mut().insert(ETAG, tag);
    }
    if !is_raw {
        compress(&head.headers, &mut response);
    }
    let (head, body) = response.into_parts();
    let body = hold(memory, body).map_err(|status| Refusal::own("OVERLOADED", status))?;
    Ok(Response::from_parts(head, Body::new(Full::new(body))))
}

fn json(route: &Route, message: &[u8]) -> Result<Response<Bytes>, Status> {
    let mut json = Vec::with_capacity(2 * message.len() + 16);
    route.json(message, &mut json).map_err(unwritable)?;
    json.push(b'\n');
    let mut response = Response::new(Bytes::from(json));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `google.api.HttpBody`. The bytes may be what a stranger uploaded: a browser must not run them.
fn raw(message: &Bytes) -> Result<Response<Bytes>, Status> {
    let body = HttpBody::decode(message.clone()).map_err(|error| internal(std::sync::Arc::new(error)))?;
    let mut response = Response::new(body.data);
    let headers = response.headers_mut();
    let content_type = HeaderValue::from_str(&body.content_type).ok().filter(|text| !text.is_empty());
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    Ok(response)
}

/// The part of `google.api.HttpBody` that an answer has.
#[derive(Clone, PartialEq, prost::Message)]
struct HttpBody {
    #[prost(string, tag = "1")]
    content_type: String,
    #[prost(bytes = "bytes", tag = "2")]
    data: Bytes,
}

/// A message of a service that JSON cannot express is a defect of the service. The call has succeeded for all that
/// counts it.
pub(crate) fn unwritable(error: WireError) -> Status {
    tracing::error!(%error, "a service sent a message that JSON cannot express");
    internal(std::sync::Arc::new(error))
}

fn compress(headers: &HeaderMap, response: &mut Response<Bytes>) {
    response.headers_mut().insert(VARY, BY_ENCODING);
    if response.body().len() < COMPRESSED_FROM || !takes_gzip(headers) {
        return;
    }
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail; if it did, the document goes out as it is.
    if let Ok(()) = encoder.write_all(response.body())
        && let Ok(compressed) = encoder.finish()
    {
        *response.body_mut() = compressed.into();
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        weaken(response.headers_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT_ENCODING;

    fn compressed(accepted: &'static str, bytes: usize) -> bool {
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
        let mut response = Response::new(Bytes::from(vec![b'a'; bytes]));
        compress(&headers, &mut response);
        assert!(response.headers().contains_key(VARY));
        response.headers().contains_key(CONTENT_ENCODING)
    }

    #[test]
    fn documents_are_compressed_for_clients_that_take_gzip() {
        for accepted in ["gzip", "br, gzip", "gzip;q=0.5, br", "*"] {
            assert!(compressed(accepted, 2000), "{accepted}");
        }
        for accepted in ["", "br", "gzip;q=0", "identity"] {
            assert!(!compressed(accepted, 2000), "{accepted}");
        }
        assert!(!compressed("gzip", 10));
    }

    #[test]
    fn bytes_of_a_service_are_not_run_by_browsers() {
        let html = HttpBody { content_type: "text/html".to_owned(), data: "<script>".into() };
        let response = raw(&html.encode_to_vec().into()).unwrap();
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html");
        assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], "sandbox");
        let untyped = raw(&HttpBody { content_type: "a\nb".to_owned(), data: "x".into() }.encode_to_vec().into());
        assert_eq!(untyped.unwrap().headers()[CONTENT_TYPE], "application/octet-stream");
    }
}
