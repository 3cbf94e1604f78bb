//! Entity tags ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110#name-validators)): a client that has the answer gets
//! 304 in its place.
//!
//! The tag is the revision of the resource, which `If-Match` sends back, or a hash of the answer.

use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue};

use crate::headers::text;
use crate::shape::Shape;

/// What an answer to GET says of itself to caches.
pub(crate) fn headers(shape: &Shape, wire: &[u8], body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if shape.is_partial(wire) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        return headers;
    }
    headers.insert(CACHE_CONTROL, shape.cache_control.clone());
    if let Some(tag) = revision_tag(shape, wire).or_else(|| hash_tag(body)) {
        headers.insert(ETAG, tag);
    }
    headers
}

/// The tag of the revision in a message, if it has one.
pub(crate) fn revision_tag(shape: &Shape, wire: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"{}\"", shape.revision(wire)?)).ok()
}

/// The tag of a document without a revision.
pub(crate) fn hash_tag(body: &[u8]) -> Option<HeaderValue> {
    use base64::Engine as _;
    let hash = ring::digest::digest(&ring::digest::SHA256, body);
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&hash.as_ref()[..12]);
    // A letter first: it is no revision.
    HeaderValue::from_str(&format!("\"h{text}\"")).ok()
}

/// Whether the client has the answer that `answer` describes.
pub(crate) fn is_known(request: &HeaderMap, answer: &HeaderMap) -> bool {
    let Some(tag) = text(answer, ETAG) else { return false };
    let known = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).map(str::trim).any(|known| known == "*" || weak(known) == weak(tag))
}

/// Makes the tag weak: a compressed answer has other bytes than the one that it stands for.
pub(crate) fn weaken(headers: &mut HeaderMap) {
    let weak = text(headers, ETAG).filter(|tag| tag.starts_with('"')).map(|tag| format!("W/{tag}"));
    if let Some(weak) = weak.and_then(|tag| HeaderValue::from_str(&tag).ok()) {
        headers.insert(ETAG, weak);
    }
}

/// A tag without its mark of weakness: comparisons for GET are weak.
fn weak(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_are_found_by_weak_comparison() {
        let answer = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("\"3\""))]);
        let known = |tags: &'static str| {
            is_known(&HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tags))]), &answer)
        };
        assert!(known("\"3\"") && known("W/\"3\"") && known("\"1\", \"3\"") && known("*"));
        assert!(!known("\"4\"") && !known("3") && !known(""));
        assert!(!is_known(&answer, &HeaderMap::new()), "an answer without a tag");
    }
}
