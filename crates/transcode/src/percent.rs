//! Percent-encoding (RFC 3986) of paths and queries.

use std::borrow::Cow;

/// A `%` that no two hexadecimal digits follow.
const ESCAPE: &str = "`%` must be followed by two hexadecimal digits";
/// A NUL, which no identifier contains and which ends a text in other programs.
const NUL: &str = "`%00` is not allowed";
/// Bytes that are no text.
const UTF_8: &str = "the decoded text is not valid UTF-8";

/// Decodes a text. `+` stays `+`.
///
/// # Errors
///
/// What is wrong: a broken escape, a NUL, or bytes that are not UTF-8.
pub fn decode(text: &str) -> Result<Cow<'_, str>, &'static str> {
    decode_but(text, |_| false)
}

/// Decodes a text of several segments: `%2F` stays, because it is no separator.
///
/// # Errors
///
/// As [`decode`].
pub(crate) fn decode_segments(text: &str) -> Result<Cow<'_, str>, &'static str> {
    decode_but(text, |byte| byte == b'/')
}

fn decode_but(text: &str, keep: impl Fn(u8) -> bool) -> Result<Cow<'_, str>, &'static str> {
    let Some(first) = text.find(['%', '\0']) else { return Ok(Cow::Borrowed(text)) };
    let mut decoded = Vec::with_capacity(text.len());
    let (plain, mut rest) = text.as_bytes().split_at(first);
    decoded.extend_from_slice(plain);
    while let Some((&byte, behind)) = rest.split_first() {
        let (byte, behind) = if byte == b'%' { escaped(behind).ok_or(ESCAPE)? } else { (byte, behind) };
        match byte {
            0 => return Err(NUL),
            _ if keep(byte) && rest[0] == b'%' => decoded.extend_from_slice(&rest[..3]),
            _ => decoded.push(byte),
        }
        rest = behind;
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| UTF_8)
}

fn escaped(behind: &[u8]) -> Option<(u8, &[u8])> {
    let digit = |byte: u8| (byte as char).to_digit(16);
    let [high, low, behind @ ..] = behind else { return None };
    let byte = digit(*high)? << 4 | digit(*low)?;
    u8::try_from(byte).ok().map(|byte| (byte, behind))
}

/// Checks the path of a request.
///
/// # Errors
///
/// What is wrong: no `/` at the start, a broken escape, a NUL, bytes that are not UTF-8, or a segment `.` or `..`,
/// which a client or a proxy should have resolved.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    let segments = path.strip_prefix('/').ok_or("a path starts with `/`")?;
    decode(path)?;
    if segments.split('/').any(is_dots) { Err("a path has no segment `.` or `..`") } else { Ok(()) }
}

/// Decodes the path of a request whole: `%2F` becomes a `/`, so the text is a name and no path to resolve.
///
/// # Errors
///
/// What is wrong: no `/` at the start, a broken escape, a NUL, bytes that are not UTF-8, or a segment `.` or `..`.
pub fn decode_path(path: &str) -> Result<Cow<'_, str>, &'static str> {
    check_path(path)?;
    decode(path)
}

/// Whether a segment is `.` or `..`, also in its encoded form.
fn is_dots(segment: &str) -> bool {
    let dot = |text: &str| match text.as_bytes() {
        [b'.', ..] => Some(1),
        [b'%', b'2', b'e' | b'E', ..] => Some(3),
        _ => None,
    };
    let Some(first) = dot(segment) else { return false };
    let behind = &segment[first..];
    behind.is_empty() || dot(behind).is_some_and(|second| second == behind.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding_leaves_plus_and_plain_text() {
        assert!(matches!(decode("a+b"), Ok(Cow::Borrowed("a+b"))));
        assert_eq!(decode("%41%2f%C3%a4%25zz").as_deref(), Ok("A/ä%zz"));
        assert_eq!(decode("").as_deref(), Ok(""));
    }

    #[test]
    fn percent_decoding_of_segments_leaves_encoded_slashes() {
        assert_eq!(decode_segments("a%2Fb%2fc/d%20e%252F").as_deref(), Ok("a%2Fb%2fc/d e%2F"));
    }

    #[test]
    fn percent_decoding_refuses_broken_escapes_nul_and_other_bytes() {
        for broken in ["%", "%z", "%zz", "%4", "a%", "%+1", "%-1", "% 1"] {
            assert_eq!(decode(broken), Err(ESCAPE), "{broken}");
        }
        assert_eq!(decode("a%00"), Err(NUL));
        assert_eq!(decode("a\0"), Err(NUL));
        for bytes in ["%ff", "%C3", "%C3(", "%ED%A0%80", "%C0%80"] {
            assert_eq!(decode(bytes), Err(UTF_8), "{bytes}");
        }
    }

    #[test]
    fn percent_check_refuses_dot_segments_in_every_spelling() {
        for path in ["/..", "/.", "/a/../b", "/%2e%2E", "/.%2e", "/%2e./a", "/a/%2e"] {
            assert!(check_path(path).is_err(), "{path}");
        }
        for path in ["/", "/...", "/..a", "/a..", "/%2e%2e%2e", "/a.b", "//"] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        assert!(check_path("").is_err());
        assert!(check_path("*").is_err());
    }
}
