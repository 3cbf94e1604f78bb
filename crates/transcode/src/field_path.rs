//! A field within nested messages, by a path such as `title.title_id`, and its wire.
//!
//! Guarantees:
//! - A field is written as one more occurrence of the messages around it. Protobuf merges occurrences, so the wire
//!   before it need not be read.

use crate::error::WireError;
use crate::scan::{self, Value};
use crate::table::{Cardinality, Field, Message, unknown};
use crate::wire::{WireType, begin, end, put_tag};

/// The most names of a path. A message may contain itself, and a receiver refuses messages that nest more than 100
/// deep.
const DEPTH: usize = 32;

/// A path of fields, the outermost first. All but the last are messages.
#[derive(Clone, Debug)]
pub(crate) struct FieldPath {
    outer: Vec<Field>,
    leaf: Field,
}

impl FieldPath {
    /// Finds the fields of a path within a message, by the names of the contract; with `json`, by those of JSON as
    /// well.
    ///
    /// # Errors
    ///
    /// What is wrong with the path, as a text behind it.
    pub(crate) fn find(message: &Message, path: &str, json: bool) -> Result<Self, String> {
        let field = |message: &Message, name: &str| {
            let found = message.field(name).filter(|field| json || field.name() == name);
            found.ok_or_else(|| unknown(message.descriptor(), name))
        };
        let mut names = path.split('.');
        let mut found = Self::of(field(message, names.next().unwrap_or_default())?);
        for name in names {
            if found.outer.len() + 1 == DEPTH {
                return Err(format!("has more than {DEPTH} names"));
            }
            let inner =
                inner(&found.leaf).ok_or_else(|| format!("leads into {}, which has no fields", found.leaf.name()))?;
            found = found.join(field(&inner, name)?);
        }
        Ok(found)
    }

    pub(crate) fn of(leaf: Field) -> Self {
        Self { outer: Vec::new(), leaf }
    }

    /// The path one level deeper.
    pub(crate) fn join(mut self, leaf: Field) -> Self {
        self.outer.push(std::mem::replace(&mut self.leaf, leaf));
        self
    }

    /// The field itself.
    pub(crate) fn leaf(&self) -> &Field {
        &self.leaf
    }

    /// The fields, the outermost first.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.outer.iter().chain([&self.leaf])
    }

    /// The path by the names of the contract.
    pub(crate) fn name(&self) -> String {
        self.fields().map(Field::name).collect::<Vec<_>>().join(".")
    }

    /// The path by the names of JSON.
    pub(crate) fn json_name(&self) -> String {
        self.fields().map(Field::json_name).collect::<Vec<_>>().join(".")
    }

    /// The numbers of the fields, which identify them.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.fields().map(Field::number).collect()
    }

    /// Appends the field to the wire of the message. `leaf` is the wire of the field itself, with its tag.
    pub(crate) fn append(&self, leaf: &[u8], out: &mut Vec<u8>) {
        let open = |field: &Field| {
            put_tag(out, field.number(), WireType::Bytes);
            begin(out)
        };
        let starts: Vec<_> = self.outer.iter().map(open).collect();
        out.extend_from_slice(leaf);
        starts.into_iter().rev().for_each(|start| end(out, start));
    }

    /// The last value of the field in the wire of a message.
    ///
    /// # Errors
    ///
    /// The wire is no message.
    pub(crate) fn last<'w>(&self, wire: &'w [u8]) -> Result<Option<Value<'w>>, WireError> {
        let mut messages = vec![wire];
        for field in &self.outer {
            let inner = messages.iter().map(|message| contents(message, field.number()));
            messages = inner.collect::<Result<Vec<_>, _>>()?.concat();
        }
        let mut last = None;
        for field in messages.into_iter().flat_map(scan::fields) {
            let field = field?;
            last = Some(field.value).filter(|_| field.number == self.leaf.number()).or(last);
        }
        Ok(last)
    }
}

/// The message of a field, if a path can lead into it.
pub(crate) fn inner(field: &Field) -> Option<Message> {
    field.message().filter(|_| field.cardinality() == Cardinality::Single && !field.descriptor().is_group())
}

/// The contents of all occurrences of a field that is a message, a string or bytes.
pub(crate) fn contents(wire: &[u8], number: u32) -> Result<Vec<&[u8]>, WireError> {
    let mut found = Vec::new();
    for field in scan::fields(wire) {
        let field = field?;
        found.extend(field.value.bytes().filter(|_| field.number == number));
    }
    Ok(found)
}
