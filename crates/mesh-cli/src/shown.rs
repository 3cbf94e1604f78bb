//! Formats text for a terminal: tables, ages, errors on one line.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use tonic::{Code, Status};
use tonic_types::{RpcStatusExt as _, StatusExt as _, pb};

/// The exit code that a shell reports for a program that Ctrl-C ended.
pub(crate) const INTERRUPTED: u8 = 128 + 2;

/// Prints an error to standard error, on one line.
pub(crate) fn error(line: &str) {
    let prefix = if io::stderr().is_terminal() { "\x1b[31merror:\x1b[0m" } else { "error:" };
    note(&format!("{prefix} {}", one_line(line)));
}

/// Prints errors, behind the rows of those that answered, and returns the exit code.
pub(crate) fn reported(errors: &[String]) -> ExitCode {
    errors.iter().for_each(|line| error(line));
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints a line that is not part of the answer to standard error. A failure to write is ignored.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A line of output with the name of its source in front, padded to `width`; coloured by name on a terminal.
pub(crate) fn labelled(name: &str, width: usize, line: &str) -> String {
    if io::stdout().is_terminal() {
        // Six colours, readable on black and on white.
        let colour = 31 + name.bytes().map(u32::from).sum::<u32>() % 6;
        format!("\x1b[{colour}m{name:<width$} |\x1b[0m {line}")
    } else {
        format!("{name:<width$} | {line}").trim_end().to_owned()
    }
}

/// A table whose columns are as wide as their widest cell. An empty last column is omitted.
pub(crate) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(ToOwned::to_owned)] }
    }

    pub(crate) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| one_line(&cell)));
    }

    /// Whether the table has no row besides its head.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let bare = self.rows[1..].iter().all(|row| row[N - 1].is_empty());
        let widths: Vec<_> = (0..if bare { N - 1 } else { N }).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// Replaces control characters by spaces, so that foreign text cannot move the cursor or start a line, and drops those
/// that change the direction of text.
pub(crate) fn one_line(text: &str) -> String {
    let turns =
        |c: &char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let kept = text.trim().chars().filter(|c| !turns(c));
    // Lines end at U+2028 and U+2029 as well.
    kept.map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

/// A foreign name or version on one line, cut at 200 characters.
pub(crate) fn name(text: &str) -> String {
    shortened(&one_line(text), 200)
}

/// A foreign sentence on one line, cut at 1,000 characters.
pub(crate) fn sentence(text: &str) -> String {
    shortened(&one_line(text), 1000)
}

/// The first `most` characters of a text, followed by an ellipsis if the text is longer.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The age of a time in its largest unit, such as `2h ago`; `-` if it is unknown. A time in the future has the age 0:
/// clocks differ.
pub(crate) fn age(time: Option<Timestamp>, now: SystemTime) -> String {
    let Some(time) = time.and_then(|time| SystemTime::try_from(time).ok()) else { return "-".to_owned() };
    let whole = Duration::from_secs(now.duration_since(time).unwrap_or_default().as_secs());
    let text = humantime::format_duration(whole).to_string();
    format!("{} ago", text.split(' ').next().unwrap_or_default())
}

/// The code, the message and the reason of a failed call.
pub(crate) fn status(status: &Status) -> String {
    if status.code() == Code::Unauthenticated {
        let words = "set MESH_TOKEN, as by `export MESH_TOKEN=$(mesh token --sub NAME --scope mesh.operator)`";
        let reason = status.get_details_error_info().map(|info| info.reason);
        return failure(status.code(), &format!("the process asks for a token that is valid: {words}"), reason);
    }
    failure(status.code(), status.message(), status.get_details_error_info().map(|info| info.reason))
}

/// The code, the message and the reason of a failed operation.
pub(crate) fn failed(error: &pb::Status) -> String {
    failure(Code::from_i32(error.code), &error.message, error.get_details_error_info().map(|info| info.reason))
}

fn failure(code: Code, message: &str, reason: Option<String>) -> String {
    match reason {
        Some(reason) => format!("{code:?}: {message} ({reason})"),
        None => format!("{code:?}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_aligns_columns_and_trims_lines() {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.row(["größer".to_owned(), "a".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME    STATE\ngrößer  a\n");
        table.row(["b".to_owned(), "failed".to_owned(), "two\nlines\u{1b}[2J".to_owned()]);
        assert_eq!(table.to_string(), "NAME    STATE   WHY\ngrößer  a\nb       failed  two lines [2J\n");
    }

    #[test]
    fn foreign_text_stays_on_its_line_and_in_its_direction() {
        assert_eq!(one_line(" a\u{202e}b\u{2066}c\u{200f}\u{1b}[2Jd\u{2028}e\r\nf "), "abc [2Jd e  f");
        assert_eq!((name(&"ä".repeat(201)), name("a")), (format!("{}…", "ä".repeat(200)), "a".to_owned()));
    }

    #[test]
    fn age_has_one_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds: i64| age(Some(Timestamp { seconds: 1_000_000 - seconds, nanos: 0 }), now);
        assert_eq!(
            [ago(0), ago(59), ago(61), ago(7_300), ago(-5)],
            ["0s ago", "59s ago", "1m ago", "2h ago", "0s ago"]
        );
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn status_includes_the_reason_if_there_is_one() {
        let details = tonic_types::ErrorDetails::with_error_info("TITLE_NOT_FOUND", "catalog", []);
        let known = Status::with_error_details(Code::NotFound, "no title", details);
        assert_eq!(status(&known), "NotFound: no title (TITLE_NOT_FOUND)");
        assert_eq!(status(&Status::unavailable("away")), "Unavailable: away");
    }

    #[test]
    fn shortened_cuts_between_characters() {
        assert_eq!(shortened("äöü", 2), "äö…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }
}
