//! Entries of maps on the wire: their keys, and whether they differ.

use crate::error::WireError;
use crate::normalise::Stop;
use crate::table::Kind;
use crate::wire::{self, Cursor, WRONG_LAYOUT, WireType};

/// The key of an entry, as JSON compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key<'a> {
    Signed(i64),
    Unsigned(u64),
    Bool(bool),
    Text(&'a [u8]),
}

/// An entry. A field that is absent is its zero.
pub(crate) struct Entry<'a> {
    pub(crate) key: Key<'a>,
    /// How the value is laid out, and the cursor before it.
    pub(crate) value: Option<(WireType, Cursor<'a>)>,
}

impl<'a> Entry<'a> {
    /// Reads an entry, `key` = 1 and `value` = 2. A value that is given twice may have to be merged, and a key that
    /// another one replaces is checked as well.
    pub(crate) fn read(wire: &'a [u8], kind: Kind) -> Result<Self, Stop> {
        let (mut key, mut value) = (None, None);
        let mut cursor = Cursor::new(wire);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag()?;
            match number {
                1 if key.is_some() => return Err(Stop::OutOfOrder),
                1 => key = Some(Key::read(&mut cursor, kind, wire_type)?),
                2 if value.is_some() => return Err(Stop::OutOfOrder),
                2 => {
                    value = Some((wire_type, cursor));
                    cursor.skip(number, wire_type)?;
                }
                _ => cursor.skip(number, wire_type)?,
            }
        }
        Ok(Self { key: key.unwrap_or_else(|| Key::zero(kind)), value })
    }
}

impl<'a> Key<'a> {
    fn zero(kind: Kind) -> Self {
        match kind {
            Kind::Bool => Self::Bool(false),
            Kind::String => Self::Text(b""),
            Kind::Uint32 | Kind::Uint64 | Kind::Fixed32 | Kind::Fixed64 => Self::Unsigned(0),
            _ => Self::Signed(0),
        }
    }

    fn read(cursor: &mut Cursor<'a>, kind: Kind, wire_type: WireType) -> Result<Self, WireError> {
        if wire_type != wire::layout(kind) {
            return Err(WRONG_LAYOUT);
        }
        Ok(match kind {
            Kind::String => Self::Text(cursor.bytes()?),
            Kind::Bool => Self::Bool(cursor.varint()? != 0),
            Kind::Int32 => Self::Signed((cursor.varint()? as i32).into()),
            Kind::Int64 => Self::Signed(cursor.varint()? as i64),
            Kind::Uint32 => Self::Unsigned((cursor.varint()? as u32).into()),
            Kind::Uint64 => Self::Unsigned(cursor.varint()?),
            Kind::Sint32 => Self::Signed(wire::zigzag32(cursor.varint()?).into()),
            Kind::Sint64 => Self::Signed(wire::zigzag64(cursor.varint()?)),
            Kind::Fixed32 => Self::Unsigned(u32::from_le_bytes(cursor.fixed32()?).into()),
            Kind::Fixed64 => Self::Unsigned(u64::from_le_bytes(cursor.fixed64()?)),
            Kind::Sfixed32 => Self::Signed(i32::from_le_bytes(cursor.fixed32()?).into()),
            Kind::Sfixed64 => Self::Signed(i64::from_le_bytes(cursor.fixed64()?)),
            Kind::Double | Kind::Float | Kind::Bytes | Kind::Enum | Kind::Message => {
                return Err(WireError::Malformed("a map has keys of a kind that has no keys"));
            }
        })
    }
}

/// A key that two of the entries at `cursor` have, which lie one behind another behind the tag `number`. An object of
/// JSON with two equal keys means different things to different readers.
pub(crate) fn repeated_key(mut cursor: Cursor<'_>, number: u32, kind: Kind) -> Result<Option<Key<'_>>, Stop> {
    let start = cursor;
    let mut last = Entry::read(cursor.bytes()?, kind)?.key;
    while cursor.tag_if(number)? == Some(WireType::Bytes) {
        let key = Entry::read(cursor.bytes()?, kind)?.key;
        if key <= last {
            return repeated_key_of_unsorted(start, number, kind);
        }
        last = key;
    }
    Ok(None)
}

fn repeated_key_of_unsorted(mut cursor: Cursor<'_>, number: u32, kind: Kind) -> Result<Option<Key<'_>>, Stop> {
    let mut keys = vec![Entry::read(cursor.bytes()?, kind)?.key];
    while cursor.tag_if(number)? == Some(WireType::Bytes) {
        keys.push(Entry::read(cursor.bytes()?, kind)?.key);
    }
    keys.sort_unstable();
    Ok(keys.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]))
}
