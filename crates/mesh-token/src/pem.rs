//! Files of one PEM block, for those who write certificates and keys for development.
//!
//! See: [RFC 7468](https://www.rfc-editor.org/rfc/rfc7468)

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A block with this label, such as `PRIVATE KEY`.
pub fn encode(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// The content of a file with one block, whatever its label. `None`: it is not valid.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let base64: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    BASE64_STANDARD.decode(base64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_has_lines_of_64_characters_and_is_read_again() {
        for length in [0, 1, 48, 49, 138] {
            let der = vec![7; length];
            let text = encode("PRIVATE KEY", &der);
            assert!(
                text.starts_with("-----BEGIN PRIVATE KEY-----\n") && text.ends_with("\n-----END PRIVATE KEY-----\n")
            );
            assert!(text.lines().all(|line| line.len() <= 64), "{text}");
            assert_eq!(decode(&text), Some(der.clone()), "{text}");
            assert_eq!(decode(&text.replace('\n', "\r\n")), Some(der));
        }
        assert_eq!(decode("something else"), None);
    }
}
