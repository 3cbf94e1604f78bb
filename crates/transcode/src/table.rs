//! The tables of messages: compiled once from a descriptor pool, then only read.
//!
//! - [`Schema`], [`Message`] and [`Field`] are handles: cloning one counts a reference.
//! - A table finds a field by number and by both of its names, and has its JSON key quoted and ready.
//! - Does not: know extensions. On the wire they are unknown fields.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor};

use crate::nearest::nearest;

/// Messages, lists and maps may nest this deep, in JSON and on the wire. prost reads as much, so a service can decode
/// what [`Message::to_wire`](crate::Message::to_wire) has written.
pub const MAX_DEPTH: usize = 100;

/// All messages of a descriptor pool. An [Any](https://protobuf.dev/reference/protobuf/google.protobuf/#any) may hold
/// each of them.
#[derive(Clone)]
pub struct Schema {
    tables: Arc<Tables>,
}

/// A type of message.
#[derive(Clone)]
pub struct Message {
    pub(crate) tables: Arc<Tables>,
    index: usize,
}

/// A field of a message.
#[derive(Clone)]
pub struct Field {
    pub(crate) tables: Arc<Tables>,
    message: usize,
    index: usize,
}

/// The type of a field, or of the elements of a list. For a map it is [`Kind::Message`]: the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `double`.
    Double,
    /// `float`.
    Float,
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `uint32`.
    Uint32,
    /// `uint64`.
    Uint64,
    /// `sint32`.
    Sint32,
    /// `sint64`.
    Sint64,
    /// `fixed32`.
    Fixed32,
    /// `fixed64`.
    Fixed64,
    /// `sfixed32`.
    Sfixed32,
    /// `sfixed64`.
    Sfixed64,
    /// `bool`.
    Bool,
    /// `string`.
    String,
    /// `bytes`.
    Bytes,
    /// An enum.
    Enum,
    /// A message. [`Field::message`] returns its type.
    Message,
}

/// How many values a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cardinality {
    /// At most one.
    Single,
    /// A list: `repeated`.
    Repeated,
    /// A map.
    Map,
}

impl Schema {
    /// Compiles the tables of all messages of `pool`.
    pub fn new(pool: &DescriptorPool) -> Self {
        Self { tables: Arc::new(Tables::compile(pool)) }
    }

    /// The message with this full name, such as `catalog.v1.Title`.
    pub fn message(&self, full_name: &str) -> Option<Message> {
        let index = *self.tables.by_name.get(full_name)?;
        Some(Message { tables: Arc::clone(&self.tables), index })
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema of {} messages", self.tables.messages.len())
    }
}

impl Message {
    /// The full name, such as `catalog.v1.Title`.
    pub fn full_name(&self) -> &str {
        self.descriptor().full_name()
    }

    /// The descriptor, for options and comments.
    pub fn descriptor(&self) -> &MessageDescriptor {
        &self.table().descriptor
    }

    /// The fields, by ascending number.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = Field> + '_ {
        (0..self.table().fields.len()).map(|index| self.at(index))
    }

    /// The field with this name, as in the contract (`title_id`) or as in JSON (`titleId`).
    pub fn field(&self, name: &str) -> Option<Field> {
        self.table().named(name).map(|index| self.at(index))
    }

    /// The field with this number.
    pub fn field_by_number(&self, number: u32) -> Option<Field> {
        let fields = &self.table().fields;
        fields.binary_search_by_key(&number, |field| field.number).ok().map(|index| self.at(index))
    }

    pub(crate) fn table(&self) -> &MessageTable {
        &self.tables.messages[self.index]
    }

    fn at(&self, index: usize) -> Field {
        Field { tables: Arc::clone(&self.tables), message: self.index, index }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && Arc::ptr_eq(&self.tables, &other.tables)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message {}", self.full_name())
    }
}

impl Field {
    /// The name in the contract, such as `title_id`.
    pub fn name(&self) -> &str {
        self.descriptor().name()
    }

    /// The name in JSON, such as `titleId`.
    pub fn json_name(&self) -> &str {
        self.descriptor().json_name()
    }

    /// The number on the wire.
    pub fn number(&self) -> u32 {
        self.table().number
    }

    /// The type of the field, or of the elements of a list.
    pub fn kind(&self) -> Kind {
        self.table().kind.public()
    }

    /// How many values the field holds.
    pub fn cardinality(&self) -> Cardinality {
        self.table().cardinality
    }

    /// The type of the message, of the elements of a list of messages, or of the entries of a map (`key` = 1,
    /// `value` = 2). `None` if the field is a scalar.
    pub fn message(&self) -> Option<Message> {
        let FieldKind::Message(index) = self.table().kind else { return None };
        Some(Message { tables: Arc::clone(&self.tables), index })
    }

    /// The descriptor, for options and comments.
    pub fn descriptor(&self) -> &FieldDescriptor {
        &self.table().descriptor
    }

    pub(crate) fn table(&self) -> &FieldTable {
        &self.tables.messages[self.message].fields[self.index]
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        (self.message, self.index) == (other.message, other.index) && Arc::ptr_eq(&self.tables, &other.tables)
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Field {}", self.descriptor().full_name())
    }
}

/// The tables of a pool. Tables refer to each other by index.
pub(crate) struct Tables {
    pub(crate) messages: Vec<MessageTable>,
    pub(crate) enums: Vec<EnumTable>,
    pub(crate) by_name: HashMap<String, usize>,
}

pub(crate) struct MessageTable {
    pub(crate) descriptor: MessageDescriptor,
    pub(crate) special: Special,
    /// By ascending number.
    pub(crate) fields: Box<[FieldTable]>,
    /// Both names of each field, sorted.
    names: Box<[(Box<str>, usize)]>,
}

pub(crate) struct FieldTable {
    pub(crate) descriptor: FieldDescriptor,
    pub(crate) number: u32,
    pub(crate) kind: FieldKind,
    pub(crate) cardinality: Cardinality,
    pub(crate) json_name: Box<str>,
    /// The JSON name as a key: `"titleId":`.
    pub(crate) key: Box<[u8]>,
    /// The index of the oneof that the field is a member of.
    pub(crate) oneof: Option<usize>,
    /// Whether a field that is not set differs from one that is zero.
    pub(crate) presence: bool,
    /// Whether a list of this kind is written packed.
    pub(crate) packed: bool,
    /// Whether the field is a group, which ends with a tag of its own.
    pub(crate) group: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FieldKind {
    Scalar(Kind),
    Enum(usize),
    Message(usize),
}

impl FieldKind {
    fn public(self) -> Kind {
        match self {
            Self::Scalar(kind) => kind,
            Self::Enum(_) => Kind::Enum,
            Self::Message(_) => Kind::Message,
        }
    }
}

pub(crate) struct EnumTable {
    /// By ascending number. Of several names of one number, the first of the contract.
    pub(crate) by_number: Box<[(i32, Box<str>)]>,
    /// All names, sorted.
    pub(crate) by_name: Box<[(Box<str>, i32)]>,
    /// `google.protobuf.NullValue`, which is null in JSON.
    pub(crate) is_null: bool,
}

/// An error names so many values of an enum.
const SHOWN: usize = 20;

impl EnumTable {
    /// The names of the values, for an error.
    pub(crate) fn shown(&self) -> String {
        let names: Vec<_> = self.by_number.iter().take(SHOWN).map(|(_, name)| &**name).collect();
        let more = if self.by_number.len() > SHOWN { ", …" } else { "" };
        format!("one of {}{more}", names.join(", "))
    }
}

/// Messages that JSON writes in a form of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    No,
    Any,
    Duration,
    /// An ordinary message, but an Any may give it a `value`.
    Empty,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    /// A wrapper such as `google.protobuf.StringValue`.
    Wrapper,
}

impl Tables {
    fn compile(pool: &DescriptorPool) -> Self {
        let by_name: HashMap<_, _> =
            pool.all_messages().enumerate().map(|(index, message)| (message.full_name().to_owned(), index)).collect();
        let enums: HashMap<_, _> =
            pool.all_enums().enumerate().map(|(index, found)| (found.full_name().to_owned(), index)).collect();
        let messages = pool.all_messages().map(|message| MessageTable::compile(message, &by_name, &enums)).collect();
        Self { messages, enums: pool.all_enums().map(|found| EnumTable::compile(&found)).collect(), by_name }
    }
}

impl Tables {
    /// The kind of the keys and the field of the values of a map.
    pub(crate) fn entry_of(&self, map: &FieldTable) -> Option<(Kind, &FieldTable)> {
        let FieldKind::Message(entry) = map.kind else { return None };
        match &*self.messages[entry].fields {
            [FieldTable { kind: FieldKind::Scalar(key), .. }, value] => Some((*key, value)),
            _ => None,
        }
    }
}

impl MessageTable {
    fn compile(
        descriptor: MessageDescriptor,
        messages: &HashMap<String, usize>,
        enums: &HashMap<String, usize>,
    ) -> Self {
        let mut fields: Vec<_> =
            descriptor.fields().map(|field| FieldTable::compile(field, &descriptor, messages, enums)).collect();
        fields.sort_by_key(|field| field.number);
        let mut names: Vec<(Box<str>, usize)> = Vec::with_capacity(2 * fields.len());
        names.extend(fields.iter().enumerate().map(|(index, field)| (field.descriptor.json_name().into(), index)));
        names.extend(fields.iter().enumerate().map(|(index, field)| (field.descriptor.name().into(), index)));
        // Stable: where one field's JSON name is another's name, the JSON name wins.
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names.dedup_by(|a, b| a.0 == b.0);
        let special = Special::of(descriptor.full_name());
        Self { descriptor, special, fields: fields.into(), names: names.into() }
    }

    /// As [`Self::named`]. Most callers write members in the order of the fields, so the field at `likely` is tried
    /// first.
    pub(crate) fn named_near(&self, name: &str, likely: usize) -> Option<usize> {
        match self.fields.get(likely) {
            Some(field) if *field.json_name == *name => Some(likely),
            _ => self.named(name),
        }
    }

    /// Says that no field has this name, and which one the caller may have meant.
    pub(crate) fn unknown(&self, name: &str) -> String {
        unknown(&self.descriptor, name)
    }

    /// The index of the field with this name, of either kind.
    pub(crate) fn named(&self, name: &str) -> Option<usize> {
        let found = self.names.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(self.names[found].1)
    }
}

/// Says that no field of a message has this name, and which one the caller may have meant.
pub(crate) fn unknown(message: &MessageDescriptor, name: &str) -> String {
    let names: Vec<_> = message.fields().map(|field| field.json_name().to_owned()).collect();
    let meant = nearest(names.iter().map(String::as_str), name);
    let meant = meant.map(|meant| format!("; the nearest is `{meant}`")).unwrap_or_default();
    format!("is no field of {}{meant}", message.full_name())
}

impl FieldTable {
    fn compile(
        descriptor: FieldDescriptor,
        message: &MessageDescriptor,
        messages: &HashMap<String, usize>,
        enums: &HashMap<String, usize>,
    ) -> Self {
        use prost_reflect::Kind as Found;
        let scalar = FieldKind::Scalar;
        let kind = match descriptor.kind() {
            Found::Double => scalar(Kind::Double),
            Found::Float => scalar(Kind::Float),
            Found::Int32 => scalar(Kind::Int32),
            Found::Int64 => scalar(Kind::Int64),
            Found::Uint32 => scalar(Kind::Uint32),
            Found::Uint64 => scalar(Kind::Uint64),
            Found::Sint32 => scalar(Kind::Sint32),
            Found::Sint64 => scalar(Kind::Sint64),
            Found::Fixed32 => scalar(Kind::Fixed32),
            Found::Fixed64 => scalar(Kind::Fixed64),
            Found::Sfixed32 => scalar(Kind::Sfixed32),
            Found::Sfixed64 => scalar(Kind::Sfixed64),
            Found::Bool => scalar(Kind::Bool),
            Found::String => scalar(Kind::String),
            Found::Bytes => scalar(Kind::Bytes),
            // A pool has every type that it refers to.
            Found::Message(found) => FieldKind::Message(messages[found.full_name()]),
            Found::Enum(found) => FieldKind::Enum(enums[found.full_name()]),
        };
        let oneof = descriptor.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        Self {
            number: descriptor.number(),
            kind,
            cardinality: match (descriptor.is_map(), descriptor.is_list()) {
                (true, _) => Cardinality::Map,
                (_, true) => Cardinality::Repeated,
                _ => Cardinality::Single,
            },
            json_name: descriptor.json_name().into(),
            key: format!("{}:", serde_json::Value::from(descriptor.json_name())).into_bytes().into(),
            oneof: oneof.and_then(|oneof| message.oneofs().position(|other| other == oneof)),
            presence: descriptor.supports_presence(),
            packed: descriptor.is_packed(),
            group: descriptor.is_group(),
            descriptor,
        }
    }
}

impl EnumTable {
    fn compile(descriptor: &EnumDescriptor) -> Self {
        let mut by_number: Vec<(i32, Box<str>)> =
            descriptor.values().map(|value| (value.number(), value.name().into())).collect();
        let mut by_name: Vec<_> = by_number.iter().map(|(number, name)| (name.clone(), *number)).collect();
        // Stable, so the first name of a number stays the first.
        by_number.sort_by_key(|(number, _)| *number);
        by_number.dedup_by_key(|(number, _)| *number);
        by_name.sort();
        let is_null = descriptor.full_name() == "google.protobuf.NullValue";
        Self { by_number: by_number.into(), by_name: by_name.into(), is_null }
    }

    pub(crate) fn name(&self, number: i32) -> Option<&str> {
        let found = self.by_number.binary_search_by_key(&number, |(other, _)| *other).ok()?;
        Some(&self.by_number[found].1)
    }

    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        let found = self.by_name.binary_search_by(|(other, _)| (**other).cmp(name)).ok()?;
        Some(self.by_name[found].1)
    }
}

impl Special {
    fn of(full_name: &str) -> Self {
        match full_name.strip_prefix("google.protobuf.") {
            Some("Any") => Self::Any,
            Some("Duration") => Self::Duration,
            Some("Empty") => Self::Empty,
            Some("FieldMask") => Self::FieldMask,
            Some("ListValue") => Self::ListValue,
            Some("Struct") => Self::Struct,
            Some("Timestamp") => Self::Timestamp,
            Some("Value") => Self::Value,
            Some(
                "DoubleValue" | "FloatValue" | "Int64Value" | "UInt64Value" | "Int32Value" | "UInt32Value"
                | "BoolValue" | "StringValue" | "BytesValue",
            ) => Self::Wrapper,
            _ => Self::No,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::schema;

    #[test]
    fn field_is_found_by_both_names_and_by_number() {
        let title = schema().message("sample.v1.Title").expect("a message");
        let field = title.field("title_id").expect("a field");
        assert_eq!((field.number(), field.kind(), field.cardinality()), (1, Kind::String, Cardinality::Single));
        assert_eq!(title.field("titleId"), Some(field.clone()));
        assert_eq!(title.field_by_number(1), Some(field));
        assert_eq!((title.field("titleid"), title.field_by_number(100)), (None, None));
        assert_eq!(schema().message("sample.v1.Titel"), None);
    }

    #[test]
    fn field_leads_to_the_message_that_it_holds() {
        let schema = schema();
        let everything = schema.message("sample.v1.Everything").expect("a message");
        let message = |name: &str| everything.field(name).and_then(|field| field.message());
        assert_eq!(message("child"), Some(everything.clone()));
        assert_eq!(message("title"), schema.message("sample.v1.Title"));
        assert_eq!(message("int32"), None);
        let entry = message("titles").expect("a map has entries");
        assert_eq!(entry.field("value").and_then(|value| value.message()), schema.message("sample.v1.Title"));
        assert_eq!(everything.field("titles").map(|field| field.cardinality()), Some(Cardinality::Map));
    }

    #[test]
    fn json_key_is_quoted() {
        let everything = schema().message("sample.v1.Everything").expect("a message");
        let field = everything.field("renamed").expect("a field");
        assert_eq!(String::from_utf8_lossy(&field.table().key), r#""another \"name\"":"#);
    }
}
