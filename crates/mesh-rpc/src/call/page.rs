//! Paging of lists by key.
//!
//! Guarantees: rows that are added or removed between two pages make no page skip or repeat a row. A token holds the
//! last key of a page, not an offset.
//!
//! See [AIP-158](https://google.aip.dev/158).

use std::fmt::Display;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::Violations;

const DEFAULT_SIZE: usize = 50;
const MAX_SIZE: usize = 200;

/// A requested page: at most `page_size` rows after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<K> {
    /// The last key of the previous page; `None` for the first page.
    pub after: Option<K>,
    size: usize,
}

impl<K: FromStr + Display> Page<K> {
    /// Reads `page_size` (0 means 50; values above 200 mean 200) and `page_token`. Records invalid values in `bad`.
    pub fn read(page_size: i32, page_token: &str, bad: &mut Violations) -> Self {
        let size = usize::try_from(page_size);
        bad.check(size.is_ok(), "page_size", "must not be negative");
        let after = if page_token.is_empty() { None } else { Some(key(page_token)) };
        bad.check(
            !matches!(after, Some(None)),
            "page_token",
            "must be empty or the next_page_token of the page before",
        );
        let size = size.ok().filter(|size| *size > 0).unwrap_or(DEFAULT_SIZE).min(MAX_SIZE);
        Self { after: after.flatten(), size }
    }

    /// The number of rows to fetch: one more than the page holds, which shows whether there is a next page.
    pub fn fetch(&self) -> i64 {
        i64::try_from(self.size + 1).unwrap_or(i64::MAX)
    }

    /// Truncates the fetched rows to the page. Also returns the token of the next page, which is empty after the last
    /// one.
    pub fn cut<R>(&self, mut rows: Vec<R>, key: impl Fn(&R) -> K) -> (Vec<R>, String) {
        let more = rows.len() > self.size;
        rows.truncate(self.size);
        let last = rows.last().filter(|_| more);
        let next = last.map(|row| Self::token(&key(row))).unwrap_or_default();
        (rows, next)
    }

    /// The token of the page behind a key.
    pub fn token(key: &K) -> String {
        URL_SAFE_NO_PAD.encode(key.to_string())
    }
}

/// The key in a token; `None` for a token that no server issued.
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
    fn page_size_is_limited() {
        assert_eq!([0, 1, 200, 201].map(|size| page(size, "").unwrap().fetch()), [51, 2, 201, 201]);
    }

    #[test]
    fn page_token_continues_after_the_last_row() {
        let first = page(2, "").unwrap();
        assert_eq!(first.after, None);
        let (rows, token) = first.cut(vec![7, 8, 9], |row| *row);
        assert_eq!(rows, [7, 8]);
        let second = page(2, &token).unwrap();
        assert_eq!(second.after, Some(8));
        assert_eq!(second.cut(vec![9, 10], |row| *row), (vec![9, 10], String::new()));
    }

    #[test]
    fn page_read_records_every_violation() {
        let bad = page(-1, "not a token").unwrap_err().to_string();
        assert!(bad.contains("page_size") && bad.contains("page_token"), "{bad}");
        assert!(page(0, &URL_SAFE_NO_PAD.encode("not a number")).is_err());
    }
}
