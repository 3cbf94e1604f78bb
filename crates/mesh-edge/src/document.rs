//! A document in memory: as it is and compressed, with its entity tag.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LOCATION, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tonic::body::Body;

use crate::headers::takes_gzip;
use crate::validators::{hash_tag, is_known, weaken};

/// A page of this server may only use this server.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; \
     font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A document.
pub struct Document {
    media_type: &'static str,
    plain: Bytes,
    /// If that is smaller.
    compressed: Option<Bytes>,
    tag: Option<HeaderValue>,
}

impl Document {
    /// A text, or JSON.
    pub fn text(media_type: &'static str, plain: Bytes) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory does not fail.
        let compressed = encoder.write_all(&plain).and_then(|()| encoder.finish()).ok().map(Bytes::from);
        let compressed = compressed.filter(|compressed| compressed.len() < plain.len());
        Self { compressed, ..Self::binary(media_type, plain) }
    }

    /// A document that is not worth compressing, such as a picture.
    pub(crate) fn binary(media_type: &'static str, plain: Bytes) -> Self {
        Self { media_type, tag: hash_tag(&plain), plain, compressed: None }
    }

    /// The document as it is.
    #[cfg(test)]
    pub(crate) fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The answer to a GET. hyper leaves out the body of one to a HEAD.
    pub fn answer(&self, request: &HeaderMap) -> Response<Body> {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.extend(self.tag.clone().map(|tag| (ETAG, tag)));
        let mut response = Response::new(Body::empty());
        if is_known(request, &headers) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
            headers.insert(CONTENT_SECURITY_POLICY, POLICY);
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            let compressed = self.compressed.as_ref().filter(|_| takes_gzip(request));
            if compressed.is_some() {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                weaken(&mut headers);
            }
            *response.body_mut() = Body::new(Full::new(compressed.unwrap_or(&self.plain).clone()));
        }
        *response.headers_mut() = headers;
        response
    }
}

/// An answer that sends its reader elsewhere.
pub(crate) fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::FOUND;
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}
