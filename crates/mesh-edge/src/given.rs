//! Headers that give a field of the request: `Idempotency-Key` and `If-Match`.

use http::HeaderMap;
use http::header::IF_MATCH;
use prost::Message as _;
use tonic::Status;
use tonic_types::pb;
use transcode::{BadRequest, Binding, FromHeader};

/// The header that makes a repeated write safe
/// ([draft](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/)).
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
const REQUEST_ID: &str = "request_id";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";

/// The fields that the headers of a request give.
///
/// # Errors
///
/// A header has no value of its field.
pub(crate) fn given<'h>(binding: &'h Binding, headers: &'h HeaderMap) -> Result<Vec<FromHeader<'h>>, BadRequest> {
    let (mut fields, mut bad) = (Vec::new(), BadRequest::default());
    if let Some(key) = headers.get(IDEMPOTENCY_KEY).filter(|_| binding.has_request_id) {
        // The draft has it in quotes, and most clients have not.
        match key.to_str().map(|key| key.trim_matches('"')) {
            Ok(value) => fields.push(FromHeader { header: IDEMPOTENCY_KEY, field: REQUEST_ID, value }),
            Err(_) => bad.add(IDEMPOTENCY_KEY, "must be a UUID"),
        }
    }
    let tag = headers.get(IF_MATCH).map(|tag| tag.to_str().ok().and_then(revision));
    match (&binding.revision, tag) {
        (_, None) => {}
        (Some(field), Some(Some(value))) => fields.push(FromHeader { header: "If-Match", field, value }),
        (Some(_), Some(None)) => bad.add("If-Match", "must be the ETag of an answer, such as \"3\""),
        // A client that sends it relies on the check.
        (None, Some(_)) if binding.http_method != "GET" => {
            bad.add("If-Match", "is not checked by this method: read the resource first, and leave the header out");
        }
        (None, Some(_)) => {}
    }
    if bad.violations.is_empty() { Ok(fields) } else { Err(bad) }
}

/// The revision in an entity tag. A proxy that compresses makes tags weak.
fn revision(tag: &str) -> Option<&str> {
    let tag = tag.trim().trim_start_matches("W/").strip_prefix('"')?.strip_suffix('"')?;
    (!tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_digit())).then_some(tag)
}

/// A service names the fields of the contract. Where a client of HTTP may have sent a header, the mistake names that,
/// too.
pub(crate) fn with_headers(binding: &Binding, status: Status) -> Status {
    let request_id = binding.has_request_id.then_some((REQUEST_ID, IDEMPOTENCY_KEY));
    let revision = binding.revision.as_deref().filter(|_| binding.http_method != "GET").map(|path| (path, "If-Match"));
    let named: Vec<_> = request_id.into_iter().chain(revision).collect();
    let Ok(mut details) = pb::Status::decode(status.details()) else { return status };
    let mut message = status.message().to_owned();
    for detail in details.details.iter_mut().filter(|detail| detail.type_url == BAD_REQUEST) {
        let Ok(mut bad) = pb::BadRequest::decode(detail.value.as_slice()) else { continue };
        for violation in &mut bad.field_violations {
            let Some((field, header)) = named.iter().find(|(field, _)| *field == violation.field) else { continue };
            let described = format!("{} (header {header})", violation.description);
            message = message.replace(&format!("{field} {}", violation.description), &format!("{field} {described}"));
            violation.description = described;
        }
        detail.value = bad.encode_to_vec();
    }
    if message == status.message() {
        return status;
    }
    details.message.clone_from(&message);
    let (code, metadata) = (status.code(), status.metadata().clone());
    Status::with_details_and_metadata(code, message, details.encode_to_vec().into(), metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_is_read_of_strong_and_weak_tags() {
        assert_eq!(revision("\"3\""), Some("3"));
        assert_eq!(revision(" W/\"3\""), Some("3"));
        for wrong in ["3", "\"x\"", "\"\"", "*", "\"1\", \"2\"", ""] {
            assert_eq!(revision(wrong), None, "{wrong}");
        }
    }
}
