//! What is wrong with an input.

use std::fmt;

/// Wire that has no JSON. Wire comes from a service, so this is a mistake of the service, not of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireError {
    /// The bytes are not a message of this type.
    Malformed(&'static str),
    /// A value that JSON cannot express, such as a Timestamp of the year 10000.
    NotInJson(&'static str),
    /// An Any holds a type that the schema does not have.
    UnknownType(String),
    /// Messages, lists and maps nest deeper than [`MAX_DEPTH`](crate::MAX_DEPTH).
    TooDeep,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed wire: {what}"),
            Self::NotInJson(what) => write!(f, "JSON cannot express {what}"),
            Self::UnknownType(name) => write!(f, "an Any holds the unknown type {name:?}"),
            Self::TooDeep => write!(f, "the message nests too deep"),
        }
    }
}

impl std::error::Error for WireError {}

/// JSON or text that is not a message of the type that was expected. It is a mistake of the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    mistakes: Vec<Mistake>,
}

/// One mistake in an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The field, as written by the caller, such as `title.tags[3].name`. It is empty for the input as a whole.
    pub path: String,
    /// What was wrong and what was expected, for the caller, in one line: a text behind the field.
    pub description: String,
    /// The byte of the input where it was noticed. Only mistakes in the syntax of JSON have it.
    pub offset: Option<usize>,
}

impl JsonError {
    pub(crate) fn new(mistakes: Vec<Mistake>) -> Self {
        Self { mistakes }
    }

    /// An error of one mistake, without an offset.
    pub fn one(path: &str, description: impl Into<String>) -> Self {
        Self { mistakes: vec![Mistake { path: path.to_owned(), description: description.into(), offset: None }] }
    }

    /// All mistakes that were found, in the order of the input. There is at least one.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// The mistakes, by value.
    pub fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.mistakes.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for JsonError {}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.description)
    }
}
