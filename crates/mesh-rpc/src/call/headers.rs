//! Writes the headers of a call.

use http::{HeaderMap, HeaderValue};

/// Inserts a header whose value differs for each call. The value is marked sensitive: HTTP/2 does not index it then,
/// and the connection's header table keeps the headers that repeat.
pub(super) fn insert_once(headers: &mut HeaderMap, name: &'static str, value: String) {
    // The values consist of digits, letters and dashes: always a valid header.
    if let Ok(mut value) = HeaderValue::try_from(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}
