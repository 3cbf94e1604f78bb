//! The fields of a message, in the order of its wire.

use crate::error::WireError;
use crate::wire::{Cursor, WireType};

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'w> {
    /// Its number.
    pub number: u32,
    /// Its value.
    pub value: Value<'w>,
}

/// The value of a field, as the wire has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'w> {
    /// An integer, a boolean or an enum.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A message, a string, bytes or a packed list.
    Bytes(&'w [u8]),
    /// What is in a group.
    Group(&'w [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

impl<'w> Value<'w> {
    /// The bytes of a message, a string, bytes or a packed list.
    pub fn bytes(&self) -> Option<&'w [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Reads the fields of a message. The iterator ends behind an error.
pub fn fields(wire: &[u8]) -> impl Iterator<Item = Result<Field<'_>, WireError>> {
    let mut cursor = Cursor::new(wire);
    std::iter::from_fn(move || {
        if cursor.is_empty() {
            return None;
        }
        let field = field(&mut cursor);
        if field.is_err() {
            cursor = Cursor::new(&[]);
        }
        Some(field)
    })
}

fn field<'w>(cursor: &mut Cursor<'w>) -> Result<Field<'w>, WireError> {
    let (number, layout) = cursor.tag()?;
    let value = match layout {
        WireType::Varint => Value::Varint(cursor.varint()?),
        WireType::Fixed64 => Value::Fixed64(cursor.fixed64()?),
        WireType::Bytes => Value::Bytes(cursor.bytes()?),
        WireType::Group | WireType::GroupEnd => Value::Group(cursor.group(number)?),
        WireType::Fixed32 => Value::Fixed32(cursor.fixed32()?),
    };
    Ok(Field { number, value })
}
