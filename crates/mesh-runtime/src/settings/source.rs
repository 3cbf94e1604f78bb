//! Where a value was set, and what is wrong with it.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The command line itself, in clap's words; also how `--help` and `--version` end.
    Usage(clap::Error),
    /// Everything that is wrong in file, environment and flags.
    Invalid(Vec<Problem>),
}

/// One mistake: where it was set, which key, and what is allowed.
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

/// Where a value was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// In no one place: several keys contradict each other.
    #[default]
    Together,
    /// Nowhere: the default is in force.
    Default,
    /// In a file.
    File(PathBuf),
    /// By an environment variable.
    Variable(String),
    /// By a flag.
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
