//! Long lists are handed out a page at a time ([AIP-158](https://google.aip.dev/158)): after a key, not after a count,
//! so that what is added or removed meanwhile makes no page skip or repeat a row.

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::Violations;

const DEFAULT: usize = 50;
const MOST: usize = 200;

/// What a request asks for: `page_size` rows after the one with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// The key of the last row of the page before; `None` for the first page.
    pub after: Option<K>,
    size: usize,
}

impl<K: FromStr + Display> Page<K> {
    /// Reads `page_size` (0 gives 50, more than 200 gives 200) and `page_token`, and notes what is wrong with them.
    pub fn read(page_size: i32, page_token: &str, bad: &mut Violations) -> Self {
        let size = usize::try_from(page_size);
        bad.check(size.is_ok(), "page_size", "must not be negative");
        let after = if page_token.is_empty() { None } else { Some(key(page_token)) };
        bad.check(
            !matches!(after, Some(None)),
            "page_token",
            "must be a next_page_token that was given out before, or empty",
        );
        let size = size.ok().filter(|size| *size > 0).unwrap_or(DEFAULT).min(MOST);
        Self { after: after.flatten(), size }
    }

    /// How many rows to fetch: one more than are given out, to learn whether there is a next page.
    pub fn fetch(&self) -> i64 {
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }

    /// Cuts what was fetched down to the page, and gives the token for the next: empty if this was the last.
    pub fn cut<R>(&self, mut rows: Vec<R>, key: impl Fn(&R) -> K) -> (Vec<R>, String) {
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        let last = rows.last().filter(|_| more);
        let next = last.map(|row| URL_SAFE_NO_PAD.encode(key(row).to_string())).unwrap_or_default();
        (rows, next)
    }
}

/// The key in a token; `None` if we never gave it out.
fn key<K: FromStr>(token: &str) -> Option<K> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page_size: i32, page_token: &str) -> Result<Page<u32>, Violations> {
        let mut bad = Violations::default();
        let page = Page::read(page_size, page_token, &mut bad);
        bad.finish().map(|()| page)
    }

    #[test]
    fn a_size_is_kept_within_bounds() {
        assert_eq!([0, 1, 200, 201].map(|size| page(size, "").unwrap().fetch()), [51, 2, 201, 201]);
    }

    #[test]
    fn a_token_continues_where_the_page_ended() {
        let first = page(2, "").unwrap();
        assert_eq!(first.after, None);
        let (rows, token) = first.cut(vec![7, 8, 9], |row| *row);
        assert_eq!(rows, [7, 8]);
        let second = page(2, &token).unwrap();
        assert_eq!(second.after, Some(8));
        assert_eq!(second.cut(vec![9, 10], |row| *row), (vec![9, 10], String::new()));
    }

    #[test]
    fn everything_wrong_is_noted() {
        let bad = page(-1, "not a token").unwrap_err().to_string();
        assert!(bad.contains("page_size") && bad.contains("page_token"), "{bad}");
        assert!(page(0, &URL_SAFE_NO_PAD.encode("not a number")).is_err());
    }
}
