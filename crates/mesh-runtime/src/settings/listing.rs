//! The configuration in force, for `--print-config`: each key with its value and source.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::key::Key;
use super::source::Source;

/// A value that a configuration file can hold.
pub trait Shown {
    /// The text that parses as this value.
    fn shown(&self) -> String;
}

macro_rules! shown_by_display {
    ($($type:ty),*) => {
        $(impl Shown for $type {
            fn shown(&self) -> String {
                self.to_string()
            }
        })*
    };
}

shown_by_display!(bool, u32, u64, usize, f64, String, SocketAddr);

impl Shown for Duration {
    fn shown(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> String {
        self.display().to_string()
    }
}

/// Each key in force, with its value and source. `Display` writes a valid configuration file.
#[derive(Clone, Debug, Default)]
pub struct Listing(BTreeMap<String, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// `None` if the key is not set and has no default.
    value: Option<String>,
    source: Source,
    doc: &'static str,
}

/// The text in place of a secret.
const REDACTED: &str = "(secret)";

impl Listing {
    /// Lists a key with its value.
    pub(super) fn set(&mut self, key: &Key, value: String, source: Source) {
        if !key.elsewhere {
            // A default is no secret.
            let redacted = key.secret && source != Source::Default;
            let value = Some(if redacted { REDACTED.to_owned() } else { value });
            self.0.insert(key.path.clone(), Entry { value, source, doc: key.doc });
        }
    }

    /// Lists a key that is not set, unless it is listed with a value.
    pub(super) fn unset(&mut self, key: &Key) {
        if !key.elsewhere {
            let entry = Entry { value: None, source: Source::Default, doc: key.doc };
            self.0.entry(key.path.clone()).or_insert(entry);
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, Entry { value, source, doc }) in &self.0 {
            if !doc.is_empty() {
                writeln!(f, "# {doc}")?;
            }
            let Some(value) = value else {
                writeln!(f, "# {key} is not set")?;
                continue;
            };
            let bare = value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok();
            let setting = if bare { format!("{key} = {value}") } else { format!("{key} = {value:?}") };
            writeln!(f, "{setting:<48} # {source}")?;
        }
        Ok(())
    }
}
