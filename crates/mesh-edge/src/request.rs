//! The message of a call from the parts of an HTTP request.

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use tonic::body::Body;
use tonic::{Code, Status};
use transcode::{FromHeader, Input, Matched};

use crate::body::Reader;
use crate::call::{PREFIX, seal};
use crate::given::given;
use crate::headers::{essence, text};
use crate::memory::Arriving;
use crate::refusal::Refusal;

/// The content types that a form of another site can send without asking.
const OF_FORMS: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// Makes the request body of a gRPC call.
///
/// # Errors
///
/// All mistakes of the request, or a body that is too large or of the wrong type.
pub(crate) async fn message(
    matched: &Matched<'_>,
    head: &Parts,
    query: Option<&str>,
    extra: Option<FromHeader<'_>>,
    body: Incoming,
    reader: Reader,
) -> Result<Body, Refusal> {
    let mut fields = given(matched.binding, &head.headers)?;
    fields.extend(extra);
    let media_type = text(&head.headers, CONTENT_TYPE);
    if matched.binding.body.is_raw() && !body.is_end_stream() {
        let content_type = media_type.ok_or_else(untyped)?;
        if OF_FORMS.iter().any(|form| essence(content_type).eq_ignore_ascii_case(form)) {
            return Err(untyped());
        }
        return raw(matched, &head.headers, query, &fields, content_type, body, reader).await;
    }
    let body = reader.read(&head.headers, body).await?;
    let input = match media_type {
        _ if body.is_empty() => Input::Empty,
        Some(media_type) if is_json(media_type) => Input::Json(&body),
        _ => return Err(not_json()),
    };
    let mut message = vec![0; PREFIX];
    matched.request(query, input, &fields, &mut message)?;
    Ok(Body::new(Full::new(seal(message))))
}

/// Makes the request body of a gRPC call of the address alone.
///
/// # Errors
///
/// All mistakes of the address.
pub(crate) fn of_address(matched: &Matched<'_>, head: &Parts) -> Result<Body, Refusal> {
    let mut message = vec![0; PREFIX];
    matched.request(head.uri.query(), Input::Empty, &[], &mut message)?;
    Ok(Body::new(Full::new(seal(message))))
}

/// The body as it is. If its length is known, it goes on as it arrives: the service's own limit for messages is the
/// only one.
async fn raw(
    matched: &Matched<'_>,
    headers: &HeaderMap,
    query: Option<&str>,
    fields: &[FromHeader<'_>],
    content_type: &str,
    body: Incoming,
    reader: Reader,
) -> Result<Body, Refusal> {
    let length = body.size_hint().exact().and_then(|length| u32::try_from(length).ok());
    let (length, data) = match length.filter(|_| !headers.contains_key(CONTENT_ENCODING)) {
        Some(length) => {
            let body = body.map_err(|error| broken_off(&error));
            (length as usize, Body::new(Arriving::new(body, reader.share)))
        }
        None => {
            let read = reader.read(headers, body).await?;
            (read.len(), Body::new(Full::new(read)))
        }
    };
    let (mut before, after) = matched.request_around(query, content_type, length, fields)?;
    let whole = u32::try_from(before.len() + length + after.len()).map_err(|_| {
        let message = "a message has at most 4 GiB";
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, "MESSAGE_TOO_LARGE", message)
    })?;
    before.splice(0..0, [&[0], &whole.to_be_bytes()[..]].concat());
    Ok(Body::new(around(before.into(), data, after.into())))
}

/// A body between bytes.
fn around(before: Bytes, body: Body, after: Bytes) -> impl http_body::Body<Data = Bytes, Error = Status> {
    let part = |bytes| Body::new(Full::new(bytes));
    crate::chain::Chain::new([part(before), body, part(after)])
}

fn broken_off(error: &hyper::Error) -> Status {
    Status::cancelled(format!("the body broke off before its end: {error}"))
}

fn is_json(media_type: &str) -> bool {
    let essence = essence(media_type).to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn not_json() -> Refusal {
    let message = "the Content-Type of a body is application/json";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message)
}

fn untyped() -> Refusal {
    let message = "the body needs its own Content-Type, such as image/png, and not that of a form";
    Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "UNSUPPORTED_MEDIA_TYPE", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_many_names() {
        for json in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["text/json", "text/plain", "application/x-www-form-urlencoded", "image/svg+json", ""] {
            assert!(!is_json(other), "{other}");
        }
    }
}
