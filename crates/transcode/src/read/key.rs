//! Keys of objects, as text.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};

use super::context::quote;
use crate::entries;

/// The text of a key. It is copied only if JSON has escaped something in it.
pub(super) struct Key<'de>(Cow<'de, str>);

impl Key<'_> {
    /// How a path names an entry of a map.
    pub(super) fn path(&self) -> String {
        format!("[{}]", quote(&self.0))
    }
}

impl Deref for Key<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// How a path names an entry with this key.
pub(super) fn path(key: entries::Key<'_>) -> String {
    match key {
        entries::Key::Signed(number) => format!("[{number}]"),
        entries::Key::Unsigned(number) => format!("[{number}]"),
        entries::Key::Bool(value) => format!("[{value}]"),
        entries::Key::Text(text) => format!("[{}]", quote(&String::from_utf8_lossy(text))),
    }
}

/// Reads a key.
pub(super) struct KeyText;

impl<'de> DeserializeSeed<'de> for KeyText {
    type Value = Key<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Key<'de>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyText {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(text.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Key<'de>, E> {
        Ok(Key(text.to_owned().into()))
    }
}
