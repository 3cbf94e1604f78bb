//! The texts of JSON: strings, numbers, bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::entries::Key;
use crate::error::WireError;

/// A string in quotes.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let text = text.as_bytes();
    let mut written = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[written..at]);
        written = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[written..]);
    out.push(b'"');
}

/// The key of an entry of a map, with its colon.
pub(super) fn key(out: &mut Vec<u8>, key: Key<'_>) -> Result<(), WireError> {
    match key {
        Key::Signed(number) => quoted(out, number),
        Key::Unsigned(number) => quoted(out, number),
        Key::Bool(value) => out.extend_from_slice(if value { b"\"true\"" } else { b"\"false\"" }),
        Key::Text(text) => string(out, utf8(text)?),
    }
    out.push(b':');
    Ok(())
}

/// The text of a string field. It must be UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, WireError> {
    std::str::from_utf8(bytes).map_err(|_| WireError::Malformed("a string is not UTF-8"))
}

/// Base64 in quotes.
pub(super) fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The space is what the encoding of this many bytes takes, so it fits.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

pub(super) fn integer(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A number of 64 bits, in quotes: JavaScript would round it.
pub(super) fn quoted(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.push(b'"');
    integer(out, number);
    out.push(b'"');
}

pub(super) fn boolean(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

pub(super) fn double(out: &mut Vec<u8>, number: f64) {
    if number.is_finite() {
        finite(out, &number);
    } else {
        not_finite(out, number);
    }
}

pub(super) fn float(out: &mut Vec<u8>, number: f32) {
    if number.is_finite() {
        finite(out, &number);
    } else {
        not_finite(out, number.into());
    }
}

/// The shortest text that reads as the same number.
fn finite(out: &mut Vec<u8>, number: &impl serde::Serialize) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, number).is_err() {
        // Memory takes every write.
        out.truncate(start);
        out.push(b'0');
    }
}

fn not_finite(out: &mut Vec<u8>, number: f64) {
    let text: &[u8] = match number {
        f64::INFINITY => b"\"Infinity\"",
        f64::NEG_INFINITY => b"\"-Infinity\"",
        _ => b"\"NaN\"",
    };
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_of_every_character_is_read_back() {
        let text: String = (0..=0x10_ffff).filter_map(char::from_u32).collect();
        let mut out = Vec::new();
        string(&mut out, &text);
        assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
    }

    #[test]
    fn bytes_are_padded_base64() {
        for (value, expected) in [("", "\"\""), ("a", "\"YQ==\""), ("ab", "\"YWI=\""), ("abc", "\"YWJj\"")] {
            let mut out = Vec::new();
            bytes(&mut out, value.as_bytes());
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn float_is_written_as_short_as_it_reads_back() {
        let float = |number| {
            let mut out = Vec::new();
            super::float(&mut out, number);
            String::from_utf8(out).expect("ASCII")
        };
        assert_eq!(float(0.1), "0.1");
        assert_eq!(float(f32::NAN), "\"NaN\"");
        assert_eq!(float(f32::NEG_INFINITY), "\"-Infinity\"");
    }
}
