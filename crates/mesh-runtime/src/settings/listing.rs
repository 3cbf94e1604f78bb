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
    value: Listed,
    doc: &'static str,
}

#[derive(Clone, Debug)]
enum Listed {
    Value(String, Source),
    Secret(Source),
    /// No source sets the key, and it has no default.
    Unset,
}

impl Listing {
    /// Lists a key with its value.
    pub(super) fn set(&mut self, key: &Key, value: String, source: Source) {
        if !key.elsewhere {
            // A default is no secret.
            let secret = key.secret && source != Source::Default;
            let value = if secret { Listed::Secret(source) } else { Listed::Value(value, source) };
            self.0.insert(key.path.clone(), Entry { value, doc: key.doc });
        }
    }

    /// Lists a key that is not set, unless it is listed with a value.
    pub(super) fn unset(&mut self, key: &Key) {
        if !key.elsewhere {
            self.0.entry(key.path.clone()).or_insert(Entry { value: Listed::Unset, doc: key.doc });
        }
    }
}

/// A key in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce<'a> {
    /// The name in the file.
    pub key: &'a str,
    /// The value as a file has it; `None` for a secret.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: &'a Source,
}

impl Listing {
    /// The keys that have a value.
    pub fn in_force(&self) -> impl Iterator<Item = InForce<'_>> {
        self.0.iter().filter_map(|(key, entry)| match &entry.value {
            Listed::Value(value, source) => Some(InForce { key, value: Some(toml(value)), source }),
            Listed::Secret(source) => Some(InForce { key, value: None, source }),
            Listed::Unset => None,
        })
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, Entry { value, doc }) in &self.0 {
            for line in doc.lines() {
                writeln!(f, "# {}", line.trim())?;
            }
            match value {
                Listed::Value(value, source) => writeln!(f, "{:<48} # {source}", format!("{key} = {}", toml(value)))?,
                Listed::Secret(source) => writeln!(f, "{:<48} # {source}", format!("# {key} is set, and secret"))?,
                Listed::Unset => writeln!(f, "# {key} is not set")?,
            }
        }
        Ok(())
    }
}

/// A value as TOML writes it: numbers and booleans bare, anything else as a basic string.
fn toml(value: &str) -> String {
    let number = value.parse::<i64>().is_ok_and(|number| number.to_string() == value);
    if number || value.parse::<bool>().is_ok() {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            control if control.is_control() => text.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => text.push(other),
        }
    }
    text + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listing_reads_back_as_a_configuration_file() {
        let mut listing = Listing::default();
        let values =
            ["7", "007", "-1", "1.5", "true", "8s", "a \"quoted\" \\ path", "tab\there", "e\u{301}\u{200b}", ""];
        for (number, value) in values.iter().enumerate() {
            let key = Key::new(format!("key_{number}"), "").doc("two\n  lines");
            listing.set(&key, (*value).to_owned(), Source::File("a \"file\"".into()));
        }
        listing.set(&Key::new("token", "").secret(), "hush".to_owned(), Source::Flag("--set".to_owned()));
        listing.unset(&Key::new("absent", ""));
        let text = listing.to_string();
        let table: toml::Table = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
        for (number, value) in values.iter().enumerate() {
            let read = match &table[&format!("key_{number}")] {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(truth) => truth.to_string(),
                other => panic!("{other:?}"),
            };
            assert_eq!(read, *value);
        }
        assert!(!table.contains_key("token") && text.contains("# token is set, and secret") && !text.contains("hush"));
        assert!(!table.contains_key("absent") && text.contains("# absent is not set"));
        let in_force: Vec<_> = listing.in_force().collect();
        assert_eq!(in_force.len(), values.len() + 1);
        assert!(in_force.iter().all(|it| {
            text.contains(&it.value.as_ref().map_or(it.key.to_owned(), |value| format!("{} = {value}", it.key)))
        }));
        assert!(
            in_force.iter().any(|it| it.key == "token" && it.value.is_none())
                && !format!("{in_force:?}").contains("hush")
        );
    }
}
