//! Headers that travel with a call, and how they are written.

use http::{HeaderMap, HeaderValue};

/// Inserts a header that differs with each call. It is marked as sensitive: HTTP/2 then keeps it out of the connection's
/// header table, where it would drive out headers that repeat.
pub(super) fn insert_once(headers: &mut HeaderMap, name: &'static str, value: String) {
    // Digits, letters and dashes only: always a valid header.
    if let Ok(mut value) = HeaderValue::try_from(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}
