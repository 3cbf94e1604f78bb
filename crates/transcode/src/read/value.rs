//! Struct, Value and ListValue: JSON within a message. They hold nothing but each other, so they need no tables.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::context::{Context, Read, skip_list, skip_map, unexpected};
use super::key::{KeyText, path};
use crate::entries::repeated_key;
use crate::table::{Kind, MAX_DEPTH};
use crate::wire::{Cursor, WireType, begin, end, put_bytes, put_tag};

const TOO_DEEP: &str = "nests too deep";

/// Reads a `google.protobuf.Value`.
pub(super) struct ValueOf<'s, 'a> {
    pub(super) context: &'s mut Context<'a>,
    pub(super) depth: usize,
}

impl<'de> DeserializeSeed<'de> for ValueOf<'_, '_> {
    type Value = Read;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Read, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueOf<'_, '_> {
    type Value = Read;

    unexpected!(|_: &Self| "a value" =>);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        put_tag(self.context.out, 1, WireType::Varint);
        self.context.out.push(0);
        Ok(Read::Value)
    }

    fn visit_i64<E: Error>(self, found: i64) -> Result<Read, E> {
        self.visit_f64(found as f64)
    }

    fn visit_u64<E: Error>(self, found: u64) -> Result<Read, E> {
        self.visit_f64(found as f64)
    }

    fn visit_f64<E: Error>(self, found: f64) -> Result<Read, E> {
        put_tag(self.context.out, 2, WireType::Fixed64);
        self.context.out.extend_from_slice(&found.to_le_bytes());
        Ok(Read::Value)
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<Read, E> {
        put_bytes(self.context.out, 3, found.as_bytes());
        Ok(Read::Value)
    }

    fn visit_bool<E: Error>(self, found: bool) -> Result<Read, E> {
        put_tag(self.context.out, 4, WireType::Varint);
        self.context.out.push(found.into());
        Ok(Read::Value)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Read, A::Error> {
        put_tag(self.context.out, 5, WireType::Bytes);
        let start = begin(self.context.out);
        StructOf { context: self.context, depth: self.depth + 1 }.visit_map(map)?;
        end(self.context.out, start);
        Ok(Read::Value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Read, A::Error> {
        put_tag(self.context.out, 6, WireType::Bytes);
        let start = begin(self.context.out);
        ListOf { context: self.context, depth: self.depth + 1 }.visit_seq(list)?;
        end(self.context.out, start);
        Ok(Read::Value)
    }
}

/// Reads a `google.protobuf.Struct`.
pub(super) struct StructOf<'s, 'a> {
    pub(super) context: &'s mut Context<'a>,
    pub(super) depth: usize,
}

impl<'de> Visitor<'de> for StructOf<'_, '_> {
    type Value = Read;

    unexpected!(|_: &Self| "an object" => bool number string list);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let context = self.context;
        if self.depth + 2 >= MAX_DEPTH {
            context.mistake(TOO_DEEP);
            return skip_map(map).map(|()| Read::Value);
        }
        let start = context.out.len();
        while let Some(key) = map.next_key_seed(KeyText)? {
            put_tag(context.out, 1, WireType::Bytes);
            let entry = begin(context.out);
            put_bytes(context.out, 1, key.as_bytes());
            put_tag(context.out, 2, WireType::Bytes);
            let value = begin(context.out);
            let from = context.mistakes.len();
            map.next_value_seed(ValueOf { context, depth: self.depth + 2 })?;
            context.name(from, || key.path());
            end(context.out, value);
            end(context.out, entry);
        }
        note_repeated_key(context, start, 1, Kind::String);
        Ok(Read::Value)
    }
}

/// Reads a `google.protobuf.ListValue`.
pub(super) struct ListOf<'s, 'a> {
    pub(super) context: &'s mut Context<'a>,
    pub(super) depth: usize,
}

impl<'de> Visitor<'de> for ListOf<'_, '_> {
    type Value = Read;

    unexpected!(|_: &Self| "a list" => bool number string object);

    fn visit_unit<E: Error>(self) -> Result<Read, E> {
        Ok(Read::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Read, A::Error> {
        let context = self.context;
        if self.depth + 1 >= MAX_DEPTH {
            context.mistake(TOO_DEEP);
            return skip_list(list).map(|()| Read::Value);
        }
        for index in 0_usize.. {
            let before = context.out.len();
            put_tag(context.out, 1, WireType::Bytes);
            let start = begin(context.out);
            let from = context.mistakes.len();
            if list.next_element_seed(ValueOf { context, depth: self.depth + 1 })?.is_none() {
                context.out.truncate(before);
                break;
            }
            context.name(from, || format!("[{index}]"));
            end(context.out, start);
        }
        Ok(Read::Value)
    }
}

/// Notes a key that a map has twice. Its entries, with the tag `number`, were written since `start`.
pub(super) fn note_repeated_key(context: &mut Context<'_>, start: usize, number: u32, kind: Kind) {
    // A mistake leaves entries that cannot be read, and is reason enough to refuse the map.
    if !context.mistakes.is_empty() {
        return;
    }
    let mut entries = Cursor::new(&context.out[start..]);
    if let Ok(Some(WireType::Bytes)) = entries.tag_if(number)
        && let Ok(Some(key)) = repeated_key(entries, number, kind)
    {
        let path = path(key);
        context.mistake_in(&path, "is given twice");
    }
}
