//! Writes the headers of a call.

use std::fmt;
use std::io::Write as _;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Inserts a header whose value differs for each call, of at most `N` bytes. The value is marked sensitive: HTTP/2 does
/// not index it then, and the connection's header table keeps the headers that repeat.
pub(super) fn insert_once<const N: usize>(headers: &mut HeaderMap, name: &HeaderName, value: fmt::Arguments<'_>) {
    let mut text = [0; N];
    let mut rest = &mut text[..];
    // The values consist of digits, letters and dashes, and fit: always a valid header.
    let written = rest.write_fmt(value).map(|()| N - rest.len());
    if let Ok(length) = written
        && let Ok(mut value) = HeaderValue::from_bytes(&text[..length])
    {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}
