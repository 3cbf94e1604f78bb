//! JSON to wire: serde_json's parser pulls, and a seed for each field writes wire.
//!
//! - A mistake in a value is noted and reading goes on, so a caller learns several at once. A mistake in the syntax of
//!   JSON ends it.
//! - Unknown members, a member or a key given twice, two members of a oneof, and null in a list are mistakes.
//! - Fields are written in the order of the JSON, zeros included.

mod context;
mod key;
mod leaf;
mod value;

use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use context::{Context, Read, quote, shorten, skip_map, unexpected};
use key::{Key, KeyText};
use leaf::{Form, Leaf};
use value::{ListOf, StructOf, ValueOf, note_repeated_key};

use crate::bits::Bits;
use crate::error::{JsonError, Mistake};
use crate::table::{Cardinality, Field, FieldKind, FieldTable, MAX_DEPTH, Message, MessageTable, Special};
use crate::wire::{WireType, begin, end, layout, put_bytes, put_tag};

/// Anys around each other may have members before their `@type` so often: each reads the text of those within it again.
const MOST_REORDERED: usize = 8;

impl Message {
    /// Appends the wire of the message that `json` writes to `out`.
    ///
    /// # Errors
    ///
    /// `out` is as before, and the error names every mistake that was found, at most 16.
    pub fn to_wire(&self, json: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
        let start = out.len();
        let mut context = Context::new(&self.tables, out);
        let mut parser = serde_json::Deserializer::from_slice(json);
        let read = body(&mut context, self.table(), 0, &mut parser).and_then(|read| parser.end().map(|()| read));
        match read {
            Ok(Read::Value) => {}
            Ok(Read::Null) => context.mistake(format!("must be a {}, not null", self.full_name())),
            Err(error) => context.mistakes.push(syntax(json, &error)),
        }
        finish(context, start)
    }
}

impl Field {
    /// Appends the field with the value that `text` says to `out`, such as a part of a URL. Of a list it is one
    /// element.
    ///
    /// The text is what JSON has between the quotes, or a number, `true` or `false`. An enum is a name or a number.
    /// Scalars, Timestamp, Duration, FieldMask and wrappers have a text.
    ///
    /// # Errors
    ///
    /// `out` is as before.
    pub fn text_to_wire(&self, text: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let (start, field) = (out.len(), self.table());
        let mut context = Context::new(&self.tables, out);
        let from = context.mistakes.len();
        match leaf_of(&context, field) {
            Some((form, layout, wrapped)) => {
                put_tag(context.out, field.number, if wrapped { WireType::Bytes } else { layout });
                let message = (wrapped || layout == WireType::Bytes && is_message(form)).then(|| begin(context.out));
                if wrapped {
                    put_tag(context.out, 1, layout);
                }
                if !form.write_text(context.out, text, true) {
                    context.mistake(form.mistake(text));
                }
                if let Some(message) = message {
                    end(context.out, message);
                }
            }
            None => context.mistake("cannot be written as one text"),
        }
        context.name(from, || self.name().to_owned());
        finish(context, start)
    }
}

fn finish(context: Context<'_>, start: usize) -> Result<(), JsonError> {
    if context.mistakes.is_empty() {
        return Ok(());
    }
    context.out.truncate(start);
    Err(JsonError::new(context.mistakes))
}

/// A mistake in the syntax of JSON, with its place.
fn syntax(json: &[u8], error: &serde_json::Error) -> Mistake {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    let (line, column) = (error.line(), error.column());
    let lines = json.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    let offset = lines.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1);
    let malformed = || format!("malformed JSON at line {line}, column {column}: {what}");
    let description = if error.is_data() { what.to_owned() } else { malformed() };
    Mistake { path: String::new(), description, offset: Some(offset) }
}

/// The form of a field that is a leaf, how it is laid out, and whether a wrapper is around it.
fn leaf_of<'a>(context: &Context<'a>, field: &FieldTable) -> Option<(Form<'a>, WireType, bool)> {
    match field.kind {
        FieldKind::Scalar(kind) => Some((Form::Scalar(kind), layout(kind), false)),
        FieldKind::Enum(index) => Some((Form::Enum(&context.tables.enums[index]), WireType::Varint, false)),
        FieldKind::Message(index) => {
            let table = &context.tables.messages[index];
            match (form_of(table.special), table.fields.first()) {
                (Some(form), _) => Some((form, WireType::Bytes, false)),
                (None, Some(value)) if table.special == Special::Wrapper => {
                    leaf_of(context, value).map(|(form, layout, _)| (form, layout, true))
                }
                _ => None,
            }
        }
    }
}

fn form_of(special: Special) -> Option<Form<'static>> {
    match special {
        Special::Timestamp => Some(Form::Timestamp),
        Special::Duration => Some(Form::Duration),
        Special::FieldMask => Some(Form::FieldMask),
        _ => None,
    }
}

fn is_message(form: Form<'_>) -> bool {
    matches!(form, Form::Timestamp | Form::Duration | Form::FieldMask)
}

/// Reads the fields of a message, without a length. `depth` counts the messages, lists and maps around it.
fn body<'de, 'a, D: Deserializer<'de>>(
    context: &mut Context<'a>,
    table: &'a MessageTable,
    depth: usize,
    json: D,
) -> Result<Read, D::Error> {
    if depth >= MAX_DEPTH {
        context.mistake("nests too deep");
        return json.deserialize_ignored_any(IgnoredAny).map(|_| Read::Value);
    }
    match table.special {
        Special::No | Special::Empty => json.deserialize_any(Object { context, table, depth: depth + 1 }),
        Special::Any => json.deserialize_any(AnyObject { context, depth: depth + 1 }),
        Special::Struct => json.deserialize_any(StructOf { context, depth }),
        Special::Value => json.deserialize_any(ValueOf { context, depth }),
        Special::ListValue => json.deserialize_any(ListOf { context, depth }),
        Special::Timestamp => json.deserialize_any(Leaf { context, form: Form::Timestamp }),
        Special::Duration => json.deserialize_any(Leaf { context, form: Form::Duration }),
        Special::FieldMask => json.deserialize_any(Leaf { context, form: Form::FieldMask }),
        Special::Wrapper => match table.fields.first() {
            Some(value) => single(context, value, depth, json),
            None => json.deserialize_ignored_any(IgnoredAny).map(|_| Read::Value),
        },
    }
}

/// Reads a field that is no list and no map, with its tag. null writes nothing.
fn single<'de, 'a, D: Deserializer<'de>>(
    context: &mut Context<'a>,
    field: &'a FieldTable,
    depth: usize,
    json: D,
) -> Result<Read, D::Error> {
    let start = context.out.len();
    put_tag(context.out, field.number, layout_of(field));
    let read = untagged(context, field, depth, json)?;
    if read == Read::Null {
        context.out.truncate(start);
    }
    Ok(read)
}

fn layout_of(field: &FieldTable) -> WireType {
    match field.kind {
        FieldKind::Scalar(kind) => layout(kind),
        FieldKind::Enum(_) => WireType::Varint,
        FieldKind::Message(_) if field.group => WireType::Group,
        FieldKind::Message(_) => WireType::Bytes,
    }
}

/// Reads a value with its length or its end, but without its tag.
fn untagged<'de, 'a, D: Deserializer<'de>>(
    context: &mut Context<'a>,
    field: &'a FieldTable,
    depth: usize,
    json: D,
) -> Result<Read, D::Error> {
    let tables = context.tables;
    match field.kind {
        FieldKind::Scalar(kind) => json.deserialize_any(Leaf { context, form: Form::Scalar(kind) }),
        FieldKind::Enum(index) => json.deserialize_any(Leaf { context, form: Form::Enum(&tables.enums[index]) }),
        FieldKind::Message(index) if field.group => {
            let read = body(context, &tables.messages[index], depth, json)?;
            put_tag(context.out, field.number, WireType::GroupEnd);
            Ok(read)
        }
        FieldKind::Message(index) => {
            let start = begin(context.out);
            let read = body(context, &tables.messages[index], depth, json)?;
            end(context.out, start);
            Ok(read)
        }
    }
}

/// An element of a list or the value of an entry, with its tag or without.
struct Element<'s, 'a> {
    context: &'s mut Context<'a>,
    field: &'a FieldTable,
    depth: usize,
    tagged: bool,
}

impl<'de> DeserializeSeed<'de> for Element<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let Self { context, field, depth, tagged } = self;
        let read = if tagged { single(context, field, depth, json) } else { untagged(context, field, depth, json) }?;
        if read == Read::Null {
            context.mistake("must not be null");
        }
        Ok(())
    }
}

struct List<'s, 'a> {
    context: &'s mut Context<'a>,
    field: &'a FieldTable,
    depth: usize,
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = Read;

    unexpected!(|_: &Self| "a list" => bool number string object);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Read, A::Error> {
        let Self { context, field, depth } = self;
        let before = context.out.len();
        let packed = field.packed.then(|| {
            put_tag(context.out, field.number, WireType::Bytes);
            begin(context.out)
        });
        for index in 0_usize.. {
            let from = context.mistakes.len();
            let element = Element { context, field, depth, tagged: packed.is_none() };
            if list.next_element_seed(element)?.is_none() {
                break;
            }
            context.name(from, || format!("[{index}]"));
        }
        match packed {
            Some(start) if context.out.len() == start => context.out.truncate(before),
            Some(start) => end(context.out, start),
            None => {}
        }
        Ok(Read::Value)
    }
}

struct Map<'s, 'a> {
    context: &'s mut Context<'a>,
    field: &'a FieldTable,
    depth: usize,
}

impl<'de> Visitor<'de> for Map<'_, '_> {
    type Value = Read;

    unexpected!(|_: &Self| "an object" => bool number string list);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let Self { context, field, depth } = self;
        let Some((kind, value)) = context.tables.entry_of(field) else {
            return skip_map(map).map(|()| Read::Value);
        };
        let start = context.out.len();
        while let Some(key) = map.next_key_seed(KeyText)? {
            put_tag(context.out, field.number, WireType::Bytes);
            let entry = begin(context.out);
            put_tag(context.out, 1, layout(kind));
            let from = context.mistakes.len();
            let form = Form::Scalar(kind);
            if !form.write_text(context.out, &key, true) {
                context.mistake(form.mistake(&key));
            }
            map.next_value_seed(Element { context, field: value, depth, tagged: true })?;
            context.name(from, || key.path());
            end(context.out, entry);
        }
        note_repeated_key(context, start, field.number, kind);
        Ok(Read::Value)
    }
}

/// The members of a message that were read so far.
struct Members<'a> {
    table: &'a MessageTable,
    seen: Bits,
    oneofs: Bits,
}

impl<'a> Members<'a> {
    fn new(table: &'a MessageTable) -> Self {
        Self { table, seen: Bits::default(), oneofs: Bits::default() }
    }

    /// Reads the value of a member.
    fn read<'de, D: Deserializer<'de>>(
        &mut self,
        context: &mut Context<'a>,
        found: Found,
        depth: usize,
        json: D,
    ) -> Result<(), D::Error> {
        let from = context.mistakes.len();
        let index = match found {
            Found::Field(index) => index,
            Found::Unknown(name) => {
                let mistake = if context.has_room() { self.table.unknown(&name) } else { String::new() };
                skip(context, &mistake, json)?;
                context.name(from, || name);
                return Ok(());
            }
        };
        let field = &self.table.fields[index];
        if self.seen.insert(index) {
            skip(context, "is given twice", json)?;
        } else if field_value(context, field, depth, json)? == Read::Value
            && field.oneof.is_some_and(|oneof| self.oneofs.insert(oneof))
        {
            let name = field.descriptor.containing_oneof().map(|oneof| oneof.name().to_owned()).unwrap_or_default();
            context.mistake(format!("is one of the fields of {name}, and another is given"));
        }
        context.name(from, || field.descriptor.json_name().to_owned());
        Ok(())
    }
}

/// Reads the value of a field of any cardinality.
fn field_value<'de, 'a, D: Deserializer<'de>>(
    context: &mut Context<'a>,
    field: &'a FieldTable,
    depth: usize,
    json: D,
) -> Result<Read, D::Error> {
    match field.cardinality {
        Cardinality::Single => single(context, field, depth, json),
        Cardinality::Repeated => json.deserialize_any(List { context, field, depth: depth + 1 }),
        Cardinality::Map => json.deserialize_any(Map { context, field, depth: depth + 1 }),
    }
}

/// A key of a message.
enum Found {
    Field(usize),
    /// No field has this name, which is shortened.
    Unknown(String),
}

impl Found {
    fn new(table: &MessageTable, name: &str, likely: usize) -> Self {
        match table.named_near(name, likely) {
            Some(index) => Self::Field(index),
            None => Self::Unknown(shorten(name).into_owned()),
        }
    }
}

/// Finds the field that a key names.
struct FieldName<'a> {
    table: &'a MessageTable,
    /// The index of the field behind the last one.
    likely: usize,
}

impl<'de> DeserializeSeed<'de> for FieldName<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Found, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for FieldName<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Found, E> {
        Ok(Found::new(self.table, name, self.likely))
    }
}

struct Object<'s, 'a> {
    context: &'s mut Context<'a>,
    table: &'a MessageTable,
    depth: usize,
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = Read;

    unexpected!(|_: &Self| "an object" => bool number string list);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let Self { context, table, depth } = self;
        let mut members = Members::new(table);
        let mut likely = 0;
        while let Some(found) = map.next_key_seed(FieldName { table, likely })? {
            if let Found::Field(index) = found {
                likely = index + 1;
            }
            map.next_value_seed(Member { context, members: &mut members, found, depth })?;
        }
        Ok(Read::Value)
    }
}

/// The value of a member.
struct Member<'s, 'a> {
    context: &'s mut Context<'a>,
    members: &'s mut Members<'a>,
    found: Found,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Member<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        self.members.read(self.context, self.found, self.depth, json)
    }
}

/// A `google.protobuf.Any`: an object with `@type`, and the members of the message of that type.
struct AnyObject<'s, 'a> {
    context: &'s mut Context<'a>,
    depth: usize,
}

impl<'de> Visitor<'de> for AnyObject<'_, '_> {
    type Value = Read;

    unexpected!(|_: &Self| "an object" => bool number string list);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let Self { context, depth } = self;
        // Members that come before the type are kept as text.
        let mut before: Vec<(Key<'de>, &'de RawValue)> = Vec::new();
        let url = loop {
            match map.next_key_seed(KeyText)? {
                Some(key) if &*key == "@type" => break map.next_value::<Cow<'de, str>>()?,
                Some(key) => before.push((key, map.next_value()?)),
                None if before.is_empty() => return Ok(Read::Value),
                None => {
                    context.mistake("has no \"@type\"");
                    return Ok(Read::Value);
                }
            }
        };
        let index = url.rsplit_once('/').and_then(|(_, name)| context.tables.by_name.get(name));
        let Some(index) = index.filter(|_| context.reordered < MOST_REORDERED || before.is_empty()) else {
            let what = if index.is_some() { "must come first here" } else { "is of an unknown type" };
            context.mistake_in("@type", format!("{} {what}", quote(&url)));
            return skip_map(map).map(|()| Read::Value);
        };
        let table = &context.tables.messages[*index];
        put_bytes(context.out, 1, url.as_bytes());
        put_tag(context.out, 2, WireType::Bytes);
        let start = begin(context.out);
        content(context, table, depth, before, map)?;
        end(context.out, start);
        Ok(Read::Value)
    }
}

/// Reads the members of an Any but for `@type`: those that came before it, and the rest.
fn content<'de, 'a, A: MapAccess<'de>>(
    context: &mut Context<'a>,
    table: &'a MessageTable,
    depth: usize,
    before: Vec<(Key<'de>, &'de RawValue)>,
    mut map: A,
) -> Result<(), A::Error> {
    let mut members = Members::new(table);
    context.reordered += 1;
    for (name, text) in before {
        let mut parser = serde_json::Deserializer::from_slice(text.get().as_bytes());
        let member = AnyMember { context, members: &mut members, name, depth };
        member.deserialize(&mut parser).map_err(A::Error::custom)?;
    }
    context.reordered -= 1;
    while let Some(name) = map.next_key_seed(KeyText)? {
        map.next_value_seed(AnyMember { context, members: &mut members, name, depth })?;
    }
    if !matches!(table.special, Special::No | Special::Empty) && !members.seen.insert(VALUE) {
        context.mistake_in("value", "is missing");
    }
    Ok(())
}

/// The number under which [`Members::seen`] has the `value` of a message with a form of its own.
const VALUE: usize = 0;

struct AnyMember<'s, 'a, 'de> {
    context: &'s mut Context<'a>,
    members: &'s mut Members<'a>,
    name: Key<'de>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for AnyMember<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        let Self { context, members, name, depth } = self;
        let table = members.table;
        if table.special == Special::No || (table.special == Special::Empty && &*name != "value") {
            let found = Found::new(table, &name, 0);
            return members.read(context, found, depth, json);
        }
        let from = context.mistakes.len();
        let read = match &*name {
            "value" if !members.seen.insert(VALUE) => body(context, table, depth, json)?,
            "value" | "@type" => skip(context, "is given twice", json)?,
            _ => skip(context, "is no member of this type, which has \"value\" alone", json)?,
        };
        if read == Read::Null {
            context.mistake("must not be null");
        }
        context.name(from, || shorten(&name).into_owned());
        Ok(())
    }
}

/// Reads over a value that is a mistake.
fn skip<'de, D: Deserializer<'de>>(context: &mut Context<'_>, mistake: &str, json: D) -> Result<Read, D::Error> {
    context.mistake(mistake);
    json.deserialize_ignored_any(IgnoredAny).map(|_| Read::Value)
}
