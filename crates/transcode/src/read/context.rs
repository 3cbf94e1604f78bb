//! What all parts of a reader share: the output and the mistakes.

use std::borrow::Cow;
use std::fmt::Display;

use serde::de::{IgnoredAny, MapAccess, SeqAccess};

use crate::error::Mistake;
use crate::table::Tables;

/// A caller learns so many mistakes at once.
const MOST_MISTAKES: usize = 16;
/// So much of a caller's text is repeated to it.
const MOST_CHARACTERS: usize = 64;

pub(super) struct Context<'a> {
    pub(super) tables: &'a Tables,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) mistakes: Vec<Mistake>,
    /// How many Anys around this place have members before their `@type`.
    pub(super) reordered: usize,
}

/// What was read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// A value, which was written. After a mistake, what was written means nothing.
    Value,
    /// null, and nothing was written.
    Null,
}

impl<'a> Context<'a> {
    pub(super) fn new(tables: &'a Tables, out: &'a mut Vec<u8>) -> Self {
        Self { tables, out, mistakes: Vec::new(), reordered: 0 }
    }

    /// Notes a mistake at this place. Whoever has called for a part of the input adds its name: [`Self::name`].
    pub(super) fn mistake(&mut self, description: impl Into<String>) {
        if self.has_room() {
            self.mistakes.push(Mistake { path: String::new(), description: description.into(), offset: None });
        }
    }

    /// Whether a further mistake is noted.
    pub(super) fn has_room(&self) -> bool {
        self.mistakes.len() < MOST_MISTAKES
    }

    /// Notes a mistake in the member `name`.
    pub(super) fn mistake_in(&mut self, name: &str, description: impl Into<String>) {
        let from = self.mistakes.len();
        self.mistake(description);
        self.name(from, || shorten(name).into_owned());
    }

    /// Puts the name of a part in front of the paths of its mistakes, which begin at `from`.
    pub(super) fn name(&mut self, from: usize, part: impl FnOnce() -> String) {
        if self.mistakes.len() == from {
            return;
        }
        let part = part();
        for mistake in &mut self.mistakes[from..] {
            let dot = if mistake.path.is_empty() || mistake.path.starts_with('[') { "" } else { "." };
            mistake.path = format!("{part}{dot}{}", mistake.path);
        }
    }

    /// Notes that something else was found than `expected`.
    pub(super) fn unexpected(&mut self, expected: impl Display, found: impl Display) -> Read {
        self.mistake(format!("must be {expected}, not {found}"));
        Read::Value
    }
}

/// A caller's text as it is repeated to it.
pub(super) fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// A caller's text in quotes.
pub(super) fn quote(text: &str) -> String {
    format!("\"{}\"", shorten(text))
}

/// Reads over the rest of an object.
pub(super) fn skip_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<(), A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// Reads over the rest of a list.
pub(super) fn skip_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

/// The methods of a visitor that note another type of JSON as a mistake. `$expected` names what was expected.
macro_rules! unexpected {
    (@bool, $expected:expr) => {
        fn visit_bool<E: serde::de::Error>(self, found: bool) -> Result<Self::Value, E> {
            let expected = ($expected)(&self);
            Ok(self.context.unexpected(expected, found))
        }
    };
    (@number, $expected:expr) => {
        fn visit_i64<E: serde::de::Error>(self, found: i64) -> Result<Self::Value, E> {
            let expected = ($expected)(&self);
            Ok(self.context.unexpected(expected, found))
        }
        fn visit_u64<E: serde::de::Error>(self, found: u64) -> Result<Self::Value, E> {
            let expected = ($expected)(&self);
            Ok(self.context.unexpected(expected, found))
        }
        fn visit_f64<E: serde::de::Error>(self, found: f64) -> Result<Self::Value, E> {
            let expected = ($expected)(&self);
            Ok(self.context.unexpected(expected, found))
        }
    };
    (@string, $expected:expr) => {
        fn visit_str<E: serde::de::Error>(self, found: &str) -> Result<Self::Value, E> {
            let expected = ($expected)(&self);
            Ok(self.context.unexpected(expected, $crate::read::context::quote(found)))
        }
    };
    (@list, $expected:expr) => {
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            $crate::read::context::skip_list(list)?;
            let expected = ($expected)(&self);
            Ok(self.context.unexpected(expected, "a list"))
        }
    };
    (@object, $expected:expr) => {
        fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            $crate::read::context::skip_map(map)?;
            let expected = ($expected)(&self);
            Ok(self.context.unexpected(expected, "an object"))
        }
    };
    ($expected:expr => $($kind:ident)*) => {
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{}", ($expected)(self))
        }
        $($crate::read::context::unexpected!(@$kind, $expected);)*
    };
}
pub(super) use unexpected;
