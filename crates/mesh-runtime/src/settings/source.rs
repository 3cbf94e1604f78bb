//! The source of a value, and the problems with it.

use std::fmt;
use std::path::PathBuf;

/// The error of a configuration that cannot be used.
#[derive(Debug)]
pub enum Error {
    /// clap's error for the command line; `--help` and `--version` also end with it.
    Usage(clap::Error),
    /// All problems in file, environment and flags.
    Invalid(Vec<Problem>),
}

/// One problem: its source, its key, and the allowed values.
#[derive(Debug)]
pub struct Problem {
    pub(super) key: String,
    pub(super) source: Source,
    pub(super) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.source, self.message)
        } else {
            write!(f, "{}: `{}` {}", self.source, self.key, self.message)
        }
    }
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Several sources: keys that contradict each other.
    Together,
    /// The default, since no source sets the key.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Together => f.write_str("configuration"),
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}
