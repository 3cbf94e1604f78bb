//! The raw half of configuration: text by key, where each was said, and what was wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a configuration cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The command line itself, in clap's words; also how `--help` and `--version` end.
    Usage(clap::Error),
    /// Everything wrong in file, environment and flags.
    Invalid(Vec<Problem>),
}

/// One mistake: where, which key, and what is allowed.
#[derive(Debug)]
pub struct Problem {
    key: String,
    origin: Origin,
    message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.origin, self.message)
        } else {
            write!(f, "{}: `{}` {}", self.origin, self.key, self.message)
        }
    }
}

/// Where something was said.
#[derive(Clone, Debug, Default)]
pub(super) enum Origin {
    #[default]
    Together,
    File(PathBuf),
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Together => f.write_str("configuration"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("MESH__{}", key.to_uppercase().replace('.', "__"))
}

/// Everything that was said, merged; a key is taken once, and what nobody takes is unknown.
#[derive(Default)]
pub(super) struct Settings {
    values: BTreeMap<String, (String, Origin)>,
    known: BTreeSet<String>,
    /// Variables that are not ours by a hair, and the key they would be.
    nearly: Vec<(String, String)>,
    problems: Vec<Problem>,
}

impl Settings {
    pub(super) fn file(&mut self, path: &Path) {
        let origin = Origin::File(path.to_owned());
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.problem("", origin, format!("cannot be read: {error}")),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.flatten("", &table, &origin),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start).min(text.len());
                let line = text[..at].lines().count().max(1);
                let message = format!("line {line}: {}", error.message().replace('\n', ", "));
                self.problem("", origin, message);
            }
        }
    }

    fn flatten(&mut self, prefix: &str, table: &toml::Table, origin: &Origin) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(table) => self.flatten(&key, table, origin),
                toml::Value::String(text) => self.set(key, text.clone(), origin.clone()),
                toml::Value::Integer(number) => self.set(key, number.to_string(), origin.clone()),
                toml::Value::Float(number) => self.set(key, number.to_string(), origin.clone()),
                toml::Value::Boolean(truth) => self.set(key, truth.to_string(), origin.clone()),
                other => self.problem(key, origin.clone(), format!("must be text, not {}", other.type_str())),
            }
        }
    }

    /// Takes every variable behind `MESH__`: `MESH__LOG__FORMAT` is `log.format`.
    pub(super) fn environment(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let Some(name) = name.to_str() else { continue };
            let Some(path) = name.strip_prefix("MESH__") else {
                if let Some(rest) = name.to_uppercase().strip_prefix("MESH_") {
                    self.nearly.push((name.to_owned(), rest.trim_start_matches('_').to_lowercase().replace("__", ".")));
                }
                continue;
            };
            let origin = Origin::Variable(name.to_owned());
            let key = path.to_lowercase().replace("__", ".");
            match value.into_string() {
                Ok(value) => self.set(key, value, origin),
                Err(_) => self.problem(key, origin, "is not UTF-8".to_owned()),
            }
        }
    }

    pub(super) fn flag(&mut self, flag: &str, key: &str, value: Option<String>) {
        if let Some(value) = value {
            self.set(key.to_owned(), value, Origin::Flag(flag.to_owned()));
        }
    }

    pub(super) fn assignment(&mut self, assignment: &str) {
        match assignment.split_once('=') {
            Some((key, value)) => self.flag("--set", key.trim(), Some(value.trim().to_owned())),
            None => self.problem("", Origin::Flag("--set".to_owned()), format!("`{assignment}` must be KEY=VALUE")),
        }
    }

    fn set(&mut self, key: String, value: String, origin: Origin) {
        self.values.insert(key, (value, origin));
    }

    /// Reads one key; `None` if nobody set it, or if what was set is not `allowed`, which is noted.
    pub(super) fn take<T>(&mut self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.known.insert(key.to_owned());
        let (text, origin) = self.values.remove(key)?;
        let value = parse(&text);
        if value.is_none() {
            // What may hold a secret is not shown.
            let secret = key.ends_with("_url") || key.ends_with("token");
            let said = if secret { String::new() } else { format!(", not `{text}`") };
            self.problem(key, origin, format!("must be {allowed}{said}"));
        }
        value
    }

    /// Where a key that is not taken yet was said.
    pub(super) fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    pub(super) fn problem(&mut self, key: impl Into<String>, origin: Origin, message: String) {
        self.problems.push(Problem { key: key.into(), origin, message });
    }

    /// Ends the reading: whatever is still there was never asked for.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        for (key, (_, origin)) in std::mem::take(&mut self.values) {
            let message = match self.nearest(&key) {
                Some(known) => format!("is not a key; did you mean `{known}`?"),
                None => {
                    let known: Vec<_> = self.known.iter().map(String::as_str).collect();
                    format!("is not a key; the keys are {}", known.join(", "))
                }
            };
            self.problem(key, origin, message);
        }
        for (name, key) in std::mem::take(&mut self.nearly) {
            if self.known.contains(&key) {
                let meant = variable(&key);
                self.problem("", Origin::Variable(name), format!("is not read; did you mean {meant}?"));
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Invalid(self.problems)) }
    }

    fn nearest(&self, key: &str) -> Option<&str> {
        let distance = |known: &String| strsim::damerau_levenshtein(known, key);
        let nearest = self.known.iter().min_by_key(|known| distance(known))?;
        (distance(nearest) <= 3).then_some(nearest)
    }
}
