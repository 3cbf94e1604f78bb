//! The configuration in force, for `--print-config`: each key with its value and source.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
pub struct Listing {
    /// `None` for a secret.
    pub(super) values: BTreeMap<String, (Option<String>, Source)>,
}

/// The text in place of a secret.
const REDACTED: &str = "(secret)";

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, (value, source)) in &self.values {
            let plain = value.as_ref().filter(|value| value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok());
            let setting = match plain {
                Some(value) => format!("{key} = {value}"),
                None => format!("{key} = {:?}", value.as_deref().unwrap_or(REDACTED)),
            };
            writeln!(f, "{setting:<48} # {source}")?;
        }
        Ok(())
    }
}
