//! Struct, Value and ListValue: JSON within a message. They hold nothing but each other, so they need no tables.

use super::text;
use crate::entries::{Entry, repeated_key};
use crate::error::WireError;
use crate::normalise::Stop;
use crate::table::{Kind, MAX_DEPTH};
use crate::wire::{Cursor, WRONG_LAYOUT, WireType};

/// Writes a `google.protobuf.Struct`.
pub(super) fn write_struct(out: &mut Vec<u8>, wire: &[u8], depth: usize) -> Result<(), Stop> {
    let depth = deeper(depth)?;
    out.push(b'{');
    let mut cursor = Cursor::new(wire);
    let mut begun = false;
    while !cursor.is_empty() {
        let (number, wire_type) = cursor.tag()?;
        if number != 1 {
            cursor.skip(number, wire_type)?;
            continue;
        }
        expect(wire_type, WireType::Bytes)?;
        if begun || repeated_key(cursor, number, Kind::String)?.is_some() {
            return Err(Stop::OutOfOrder);
        }
        begun = true;
        write_entries(out, &mut cursor, depth)?;
    }
    out.push(b'}');
    Ok(())
}

/// Writes the entry at `cursor` and those that follow at once.
fn write_entries(out: &mut Vec<u8>, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), Stop> {
    let depth = deeper(depth)?;
    loop {
        let entry = Entry::read(cursor.bytes()?, Kind::String)?;
        text::key(out, entry.key)?;
        let mut value: &[u8] = b"";
        if let Some((wire_type, mut at)) = entry.value {
            expect(wire_type, WireType::Bytes)?;
            value = at.bytes()?;
        }
        write_value(out, value, depth)?;
        match cursor.tag_if(1)? {
            None => return Ok(()),
            Some(wire_type) => expect(wire_type, WireType::Bytes)?,
        }
        out.push(b',');
    }
}

/// Writes a `google.protobuf.ListValue`.
pub(super) fn write_list(out: &mut Vec<u8>, wire: &[u8], depth: usize) -> Result<(), Stop> {
    let depth = deeper(depth)?;
    out.push(b'[');
    let start = out.len();
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        let (number, wire_type) = cursor.tag()?;
        if number != 1 {
            cursor.skip(number, wire_type)?;
            continue;
        }
        expect(wire_type, WireType::Bytes)?;
        if out.len() > start {
            out.push(b',');
        }
        write_value(out, cursor.bytes()?, depth)?;
    }
    out.push(b']');
    Ok(())
}

/// Writes a `google.protobuf.Value`. One that holds nothing is null.
pub(super) fn write_value(out: &mut Vec<u8>, wire: &[u8], depth: usize) -> Result<(), Stop> {
    let depth = deeper(depth)?;
    let mut cursor = Cursor::new(wire);
    let mut written = false;
    while !cursor.is_empty() {
        let (number, wire_type) = cursor.tag()?;
        let layout = match number {
            1 | 4 => WireType::Varint,
            2 => WireType::Fixed64,
            3 | 5 | 6 => WireType::Bytes,
            _ => {
                cursor.skip(number, wire_type)?;
                continue;
            }
        };
        expect(wire_type, layout)?;
        if written {
            return Err(Stop::OutOfOrder);
        }
        written = true;
        match number {
            1 => {
                cursor.varint()?;
                out.extend_from_slice(b"null");
            }
            2 => write_number(out, f64::from_le_bytes(cursor.fixed64()?))?,
            3 => text::string(out, text::utf8(cursor.bytes()?)?),
            4 => text::boolean(out, cursor.varint()? != 0),
            5 => write_struct(out, cursor.bytes()?, depth)?,
            _ => write_list(out, cursor.bytes()?, depth)?,
        }
    }
    if !written {
        out.extend_from_slice(b"null");
    }
    Ok(())
}

fn write_number(out: &mut Vec<u8>, number: f64) -> Result<(), WireError> {
    if !number.is_finite() {
        return Err(WireError::NotInJson("a Value that is NaN or infinite"));
    }
    text::double(out, number);
    Ok(())
}

fn deeper(depth: usize) -> Result<usize, WireError> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(WireError::TooDeep) }
}

fn expect(found: WireType, expected: WireType) -> Result<(), WireError> {
    if found == expected { Ok(()) } else { Err(WRONG_LAYOUT) }
}
