//! The comments of contracts.
//!
//! Does not: find comments if the descriptors have no source info. The document then goes without.

use std::collections::HashMap;

use prost_reflect::FileDescriptor;

/// The comments of all files that were asked for.
#[derive(Default)]
pub(super) struct Comments {
    files: HashMap<String, HashMap<Vec<i32>, String>>,
}

/// The codes of gRPC that a comment can name.
const CODES: [(&str, i32); 16] = [
    ("CANCELLED", 1),
    ("UNKNOWN", 2),
    ("INVALID_ARGUMENT", 3),
    ("DEADLINE_EXCEEDED", 4),
    ("NOT_FOUND", 5),
    ("ALREADY_EXISTS", 6),
    ("PERMISSION_DENIED", 7),
    ("RESOURCE_EXHAUSTED", 8),
    ("FAILED_PRECONDITION", 9),
    ("ABORTED", 10),
    ("OUT_OF_RANGE", 11),
    ("UNIMPLEMENTED", 12),
    ("INTERNAL", 13),
    ("UNAVAILABLE", 14),
    ("DATA_LOSS", 15),
    ("UNAUTHENTICATED", 16),
];

/// The comment of a method, in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// The first sentence, without its full stop.
    pub(super) summary: String,
    /// The other sentences, but for those about errors.
    pub(super) description: String,
    pub(super) failures: Vec<Failure>,
}

/// What a comment says about one code: `NOT_FOUND: TITLE_NOT_FOUND.`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: i32,
    /// The text behind the code.
    pub(super) text: String,
    pub(super) reasons: Vec<String>,
}

impl Comments {
    /// The comment in front of a declaration, whose path is that of `google.protobuf.SourceCodeInfo`.
    pub(super) fn of(&mut self, file: &FileDescriptor, path: &[i32]) -> String {
        let read = || {
            let info = file.file_descriptor_proto().source_code_info.as_ref();
            let locations = info.map(|info| info.location.as_slice()).unwrap_or_default();
            let comment = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n").trim().to_owned();
            locations.iter().map(|found| (found.path.clone(), comment(found.leading_comments()))).collect()
        };
        let comments: &HashMap<Vec<i32>, String> = self.files.entry(file.name().to_owned()).or_insert_with(read);
        comments.get(path).cloned().unwrap_or_default()
    }
}

impl Parts {
    pub(super) fn of(comment: &str) -> Self {
        let mut parts = Self::default();
        let mut sentences = Vec::new();
        for paragraph in comment.split("\n\n") {
            let paragraph = paragraph.replace('\n', " ");
            let (text, failures) = failures(&paragraph);
            parts.failures.extend(failures);
            if !text.is_empty() {
                sentences.push(text.to_owned());
            }
        }
        if let Some(first) = sentences.first_mut() {
            let (summary, rest) = first.split_once(". ").unwrap_or((first.trim_end_matches('.'), ""));
            parts.summary = summary.to_owned();
            *first = rest.to_owned();
        }
        parts.description = sentences.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n\n");
        parts
    }
}

/// Splits a paragraph before the first code, and what follows at each code.
fn failures(paragraph: &str) -> (&str, Vec<Failure>) {
    let mut starts: Vec<(usize, &str, i32)> = Vec::new();
    for (name, code) in CODES {
        let marks = paragraph.match_indices(name).filter(|(at, _)| {
            let before = &paragraph[..*at];
            (before.is_empty() || before.ends_with(". ")) && paragraph[at + name.len()..].starts_with(": ")
        });
        starts.extend(marks.map(|(at, name)| (at, name, code)));
    }
    starts.sort_unstable();
    let ends = starts.iter().skip(1).map(|(at, ..)| *at).chain([paragraph.len()]);
    let failure = |((at, name, code), end): (&(usize, &str, i32), usize)| {
        let text = paragraph[at + name.len() + 2..end].trim().to_owned();
        Failure { code: *code, reasons: reasons(&text), text }
    };
    let found = starts.iter().zip(ends).map(failure).collect();
    (paragraph[..starts.first().map_or(paragraph.len(), |(at, ..)| *at)].trim(), found)
}

/// The words of a text's first sentence that are reasons: capitals with `_` between them.
fn reasons(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let sentence = text.split_once(". ").map_or(text, |(first, _)| first);
    let words = sentence.split(|c| !is_part(c));
    let is_code = |word: &str| CODES.iter().any(|(name, _)| *name == word);
    let is_reason = |word: &&str| word.contains('_') && !word.chars().any(|c| c.is_ascii_lowercase()) && !is_code(word);
    words.filter(is_reason).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32, text: &str, reasons: &[&str]) -> Failure {
        Failure { code, text: text.to_owned(), reasons: reasons.iter().map(|&reason| reason.to_owned()).collect() }
    }

    #[test]
    fn comment_is_split_into_summary_description_and_failures() {
        let parts = Parts::of(
            "Changes the fields. If it is still\nat the revision.\n\nA repeated call fails with STALE_REVISION.\n\
             INVALID_ARGUMENT: INVALID_FIELDS (all), REQUEST_ID_REUSED. NOT_FOUND: TITLE_NOT_FOUND.\n\
             FAILED_PRECONDITION: STALE_REVISION, with current_revision. Read the title\nagain. \
             The work may fail with DATA_LOSS: PAGE_LOST.",
        );
        assert_eq!(parts.summary, "Changes the fields");
        assert_eq!(parts.description, "If it is still at the revision.\n\nA repeated call fails with STALE_REVISION.");
        assert_eq!(
            parts.failures,
            [
                failure(3, "INVALID_FIELDS (all), REQUEST_ID_REUSED.", &["INVALID_FIELDS", "REQUEST_ID_REUSED"]),
                failure(5, "TITLE_NOT_FOUND.", &["TITLE_NOT_FOUND"]),
                failure(
                    9,
                    "STALE_REVISION, with current_revision. Read the title again. The work may fail with DATA_LOSS: \
                     PAGE_LOST.",
                    &["STALE_REVISION"]
                ),
            ]
        );
    }

    #[test]
    fn comment_of_one_sentence_has_no_description() {
        let parts = Parts::of("Gives one title.\n\nINTERNAL: broken.");
        assert_eq!((parts.summary.as_str(), parts.description.as_str()), ("Gives one title", ""));
        assert_eq!(parts.failures, [failure(13, "broken.", &[])]);
        assert_eq!(Parts::of(""), Parts::default());
    }
}
