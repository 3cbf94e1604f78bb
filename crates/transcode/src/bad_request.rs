//! The mistakes of a request.

use std::fmt;

use crate::error::JsonError;

/// The most mistakes that are reported. A query can have thousands.
const MISTAKES: usize = 64;

/// A request with mistakes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BadRequest {
    /// The mistakes.
    pub violations: Vec<Violation>,
}

/// A mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The path of the field; what the request has, if there is no such field.
    pub field: String,
    /// What is wrong, as a text behind the field; a sentence of its own if there is no field.
    pub description: String,
}

impl BadRequest {
    /// Adds a mistake. Those above a limit of 64 are dropped.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        if !self.is_full() {
            self.violations.push(Violation { field: field.into(), description: description.into() });
        }
    }

    /// Whether no more mistakes are reported.
    pub(crate) fn is_full(&self) -> bool {
        self.violations.len() >= MISTAKES
    }

    /// Adds the mistakes of a text for the field `path`.
    pub(crate) fn add_text(&mut self, path: &str, error: JsonError) {
        error.into_mistakes().into_iter().for_each(|mistake| self.add(path, mistake.description));
    }

    /// Adds the mistakes of JSON for the message `within`, or for the whole request if that is empty.
    pub(crate) fn add_all(&mut self, within: &str, error: JsonError) {
        for mistake in error.into_mistakes() {
            let dot = if within.is_empty() || mistake.path.is_empty() { "" } else { "." };
            let field = format!("{within}{dot}{}", mistake.path);
            // A mistake in the syntax is a sentence of its own.
            let whole = field.is_empty() && mistake.offset.is_none();
            let subject = if whole { "the body " } else { "" };
            self.add(field, format!("{subject}{}", mistake.description));
        }
    }
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { field, description }) in self.violations.iter().enumerate() {
            let between = if index == 0 { "" } else { "; " };
            let colon = if field.is_empty() { "" } else { ": " };
            write!(f, "{between}{field}{colon}{description}")?;
        }
        Ok(())
    }
}

impl std::error::Error for BadRequest {}
