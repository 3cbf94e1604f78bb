//! Long lists are handed out a page at a time ([AIP-158](https://google.aip.dev/158)): after a key, not after a count,
//! so that what is added or removed meanwhile makes no page skip or repeat a row.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const DEFAULT: i32 = 50;
const MOST: i32 = 200;

/// How many rows to give for a requested `page_size`: 0 gives 50, more than 200 gives 200, less than 0 gives `None`.
pub fn size(requested: i32) -> Option<usize> {
    match requested {
        ..0 => None,
        0 => usize::try_from(DEFAULT).ok(),
        _ => usize::try_from(requested.min(MOST)).ok(),
    }
}

/// The token for the page after the row with `key`. Opaque to clients, who may store it.
pub fn token(key: &str) -> String {
    URL_SAFE_NO_PAD.encode(key)
}

/// The key that a token stands for; `None` if we never gave it out.
pub fn key(token: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_kept_within_bounds() {
        assert_eq!([0, 1, 200, 201].map(size), [Some(50), Some(1), Some(200), Some(200)]);
        assert_eq!(size(-1), None);
    }

    #[test]
    fn a_token_gives_its_key_again() {
        assert_eq!(key(&token("0199-é")).as_deref(), Some("0199-é"));
        assert_eq!(key("not a token"), None);
    }
}
