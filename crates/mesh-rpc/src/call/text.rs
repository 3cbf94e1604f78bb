//! The rules for texts in requests, with the words that describe them in contracts and in violations.
//!
//! Guarantees:
//! - A text that a rule accepts can be stored in each database: it has no NUL.
//! - The description says all that the rule checks. A contract repeats it in the comment of its field.

use std::fmt;

/// A rule for a text: [`line`](Self::line) for names, [`lines`](Self::lines) for descriptions. Its `Display` is the
/// description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    most: usize,
    lines: bool,
}

impl Text {
    /// One line of 1 to `most` characters. Refuses control characters, line separators, and a text of white space and
    /// invisible characters only.
    pub const fn line(most: usize) -> Self {
        Self { most, lines: false }
    }

    /// Any number of lines, at most `most` characters together; empty is allowed. Lines end with a line feed: refuses
    /// CRLF, the line separators U+2028 and U+2029, and all control characters but line feeds and tabs.
    pub const fn lines(most: usize) -> Self {
        Self { most, lines: true }
    }

    /// Whether `text` follows the rule. Characters are Unicode scalar values.
    pub fn accepts(self, text: &str) -> bool {
        let allowed = |c: char| self.lines && matches!(c, '\n' | '\t') || !c.is_control() && !is_separator(c);
        let visible = || text.chars().any(|c| !c.is_whitespace() && !is_invisible(c));
        text.chars().all(allowed) && text.chars().count() <= self.most && (self.lines || visible())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.most;
        if self.lines {
            write!(
                f,
                "at most {most} characters, without U+2028, U+2029 and control characters but tabs and line feeds (no CRLF)"
            )
        } else {
            write!(f, "1 to {most} characters on one line, at least one visible, without control characters")
        }
    }
}

/// Separators of Unicode that end a line and are no control characters.
fn is_separator(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

/// Characters without a shape that do not count as white space: the default ignorable ones, and the blank ones.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_accepts_visible_text_on_one_line() {
        let line = Text::line(200);
        for good in ["x", " Metropolis ", "a\u{200b}b", "\u{1f469}\u{200d}\u{1f680}", &"é".repeat(200)] {
            assert!(line.accepts(good), "{good:?}");
        }
        let long = "é".repeat(201);
        let one_line = ["", "a\nb", "a\r\nb", "a\tb", "a\0", "\u{7}", "a\u{85}b", "a\u{2028}b", "a\u{2029}b", &long];
        let blank = [" ", "\u{a0}", "\u{3000}", "\u{200b}", "\u{feff} \u{2060}", "\u{3164}", "\u{2800}"];
        for bad in one_line.into_iter().chain(blank) {
            assert!(!line.accepts(bad), "{bad:?}");
        }
    }

    #[test]
    fn lines_describe_what_they_refuse() {
        let description = Text::lines(5000).to_string();
        for refused in ["5000", "U+2028", "U+2029", "CRLF", "control characters"] {
            assert!(description.contains(refused), "{refused} is not in: {description}");
        }
    }

    #[test]
    fn lines_end_with_a_line_feed() {
        let lines = Text::lines(5000);
        for good in ["", " ", "A city:\n\tabove.\n", &"é".repeat(5000)] {
            assert!(lines.accepts(good), "{good:?}");
        }
        for bad in ["a\r\nb", "a\rb", "a\0", "a\u{2028}b", "a\u{2029}b", "a\u{85}b", &"é".repeat(5001)] {
            assert!(!lines.accepts(bad), "{bad:?}");
        }
    }
}
