//! Scalars of the wire as JSON.

use super::text;
use crate::error::WireError;
use crate::table::Kind;
use crate::wire::{Cursor, WRONG_LAYOUT, zigzag32, zigzag64};

/// Writes the scalar at `cursor`, which has the layout of its kind. Enums and messages are not scalars.
#[inline]
pub(super) fn write(out: &mut Vec<u8>, cursor: &mut Cursor<'_>, kind: Kind) -> Result<(), WireError> {
    match kind {
        Kind::Double => text::double(out, f64::from_le_bytes(cursor.fixed64()?)),
        Kind::Float => text::float(out, f32::from_le_bytes(cursor.fixed32()?)),
        Kind::Int32 => text::integer(out, cursor.varint()? as i32),
        Kind::Int64 => text::quoted(out, cursor.varint()? as i64),
        Kind::Uint32 => text::integer(out, cursor.varint()? as u32),
        Kind::Uint64 => text::quoted(out, cursor.varint()?),
        Kind::Sint32 => text::integer(out, zigzag32(cursor.varint()?)),
        Kind::Sint64 => text::quoted(out, zigzag64(cursor.varint()?)),
        Kind::Fixed32 => text::integer(out, u32::from_le_bytes(cursor.fixed32()?)),
        Kind::Fixed64 => text::quoted(out, u64::from_le_bytes(cursor.fixed64()?)),
        Kind::Sfixed32 => text::integer(out, i32::from_le_bytes(cursor.fixed32()?)),
        Kind::Sfixed64 => text::quoted(out, i64::from_le_bytes(cursor.fixed64()?)),
        Kind::Bool => text::boolean(out, cursor.varint()? != 0),
        Kind::String => text::string(out, text::utf8(cursor.bytes()?)?),
        Kind::Bytes => text::bytes(out, cursor.bytes()?),
        Kind::Enum | Kind::Message => return Err(WRONG_LAYOUT),
    }
    Ok(())
}

/// The zero of a scalar.
pub(super) fn zero(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => b"\"0\"",
        Kind::Bool => b"false",
        Kind::String | Kind::Bytes => b"\"\"",
        _ => b"0",
    }
}
