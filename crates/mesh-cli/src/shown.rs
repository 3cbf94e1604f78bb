//! How things are put into words for people: tables, ages, failures in a line.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime};

use prost_types::Timestamp;
use tonic::{Code, Status};
use tonic_types::{RpcStatusExt as _, StatusExt as _, pb};

/// What went wrong, in one line.
pub(crate) fn complain(line: &str) {
    let prefix = if io::stderr().is_terminal() { "\x1b[31merror:\x1b[0m" } else { "error:" };
    remark(&format!("{prefix} {}", one_line(line)));
}

/// What is not part of the answer. Where it cannot be written, nobody is there to read it.
pub(crate) fn remark(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// A line of somebody's, with the name in front, in a colour of its own where there are colours.
pub(crate) fn labelled(name: &str, width: usize, line: &str) -> String {
    if io::stdout().is_terminal() {
        // Six colours that can be read on black and on white.
        let colour = 31 + name.bytes().map(u32::from).sum::<u32>() % 6;
        format!("\x1b[{colour}m{name:<width$} |\x1b[0m {line}")
    } else {
        format!("{name:<width$} | {line}").trim_end().to_owned()
    }
}

/// Columns as wide as what stands in them. The last one is left out if nothing does.
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

    /// Whether it has nothing but a head.
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

/// Text of others without what would move the cursor or begin a line.
pub(crate) fn one_line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most so many characters of a text.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// How long ago something was, in its largest unit. Clocks differ: what is yet to come is now.
pub(crate) fn age(time: Option<Timestamp>, now: SystemTime) -> String {
    let Some(time) = time.and_then(|time| SystemTime::try_from(time).ok()) else { return "-".to_owned() };
    let whole = Duration::from_secs(now.duration_since(time).unwrap_or_default().as_secs());
    let text = humantime::format_duration(whole).to_string();
    format!("{} ago", text.split(' ').next().unwrap_or_default())
}

/// Why a call failed: its code, its message and its reason.
pub(crate) fn status(status: &Status) -> String {
    failure(status.code(), status.message(), status.get_details_error_info().map(|info| info.reason))
}

/// Why an operation failed, in the same words.
pub(crate) fn error(error: &pb::Status) -> String {
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
    fn columns_are_as_wide_as_their_cells_and_lines_end_where_their_text_does() {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.row(["größer".to_owned(), "a".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME    STATE\ngrößer  a\n");
        table.row(["b".to_owned(), "failed".to_owned(), "two\nlines\u{1b}[2J".to_owned()]);
        assert_eq!(table.to_string(), "NAME    STATE   WHY\ngrößer  a\nb       failed  two lines [2J\n");
    }

    #[test]
    fn ages_have_one_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds: i64| age(Some(Timestamp { seconds: 1_000_000 - seconds, nanos: 0 }), now);
        assert_eq!(
            [ago(0), ago(59), ago(61), ago(7_300), ago(-5)],
            ["0s ago", "59s ago", "1m ago", "2h ago", "0s ago"]
        );
        assert_eq!(age(None, now), "-");
    }

    #[test]
    fn a_failure_has_its_reason_where_there_is_one() {
        let details = tonic_types::ErrorDetails::with_error_info("TITLE_NOT_FOUND", "catalog", []);
        let known = Status::with_error_details(Code::NotFound, "no title", details);
        assert_eq!(status(&known), "NotFound: no title (TITLE_NOT_FOUND)");
        assert_eq!(status(&Status::unavailable("away")), "Unavailable: away");
    }

    #[test]
    fn shortened_text_is_cut_between_characters() {
        assert_eq!(shortened("äöü", 2), "äö…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }
}
