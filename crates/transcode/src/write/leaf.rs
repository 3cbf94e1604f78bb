//! Messages that JSON writes as one string or number: Timestamp, Duration, FieldMask and wrappers. Their fields may be
//! in any order.

use super::{scalar, text};
use crate::error::WireError;
use crate::field_mask;
use crate::table::{FieldKind, MessageTable};
use crate::time::{self, Time};
use crate::wire::{Cursor, WRONG_LAYOUT, WireType, layout};

pub(super) fn write_timestamp(out: &mut Vec<u8>, wire: &[u8]) -> Result<(), WireError> {
    let time = read_time(wire)?;
    out.push(b'"');
    if !time::write_timestamp(out, time) {
        return Err(WireError::NotInJson("a Timestamp outside the years 1 to 9999"));
    }
    out.push(b'"');
    Ok(())
}

pub(super) fn write_duration(out: &mut Vec<u8>, wire: &[u8]) -> Result<(), WireError> {
    let time = read_time(wire)?;
    out.push(b'"');
    if !time::write_duration(out, time) {
        return Err(WireError::NotInJson("a Duration that is out of range or has two signs"));
    }
    out.push(b'"');
    Ok(())
}

/// `seconds` = 1 and `nanos` = 2.
fn read_time(wire: &[u8]) -> Result<Time, WireError> {
    let mut time = Time::default();
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        match cursor.tag()? {
            (1, WireType::Varint) => time.seconds = cursor.varint()? as i64,
            (2, WireType::Varint) => time.nanos = cursor.varint()? as i32,
            (1 | 2, _) => return Err(WRONG_LAYOUT),
            (number, wire_type) => cursor.skip(number, wire_type)?,
        }
    }
    Ok(time)
}

/// `paths` = 1.
pub(super) fn write_field_mask(out: &mut Vec<u8>, wire: &[u8]) -> Result<(), WireError> {
    let mut paths = String::new();
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        match cursor.tag()? {
            (1, WireType::Bytes) => {
                if !paths.is_empty() {
                    paths.push(',');
                }
                if !field_mask::write_path(&mut paths, text::utf8(cursor.bytes()?)?) {
                    return Err(WireError::NotInJson("a path of a FieldMask that is not lower_snake_case"));
                }
            }
            (1, _) => return Err(WRONG_LAYOUT),
            (number, wire_type) => cursor.skip(number, wire_type)?,
        }
    }
    text::string(out, &paths);
    Ok(())
}

/// `value` = 1. Of several the last one counts, but each is checked.
pub(super) fn write_wrapper(out: &mut Vec<u8>, table: &MessageTable, wire: &[u8]) -> Result<(), WireError> {
    let Some(FieldKind::Scalar(kind)) = table.fields.first().map(|field| field.kind) else {
        return Err(WRONG_LAYOUT);
    };
    let start = out.len();
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        let (number, wire_type) = cursor.tag()?;
        if number != 1 {
            cursor.skip(number, wire_type)?;
            continue;
        }
        if wire_type != layout(kind) {
            return Err(WRONG_LAYOUT);
        }
        out.truncate(start);
        scalar::write(out, &mut cursor, kind)?;
    }
    if out.len() == start {
        out.extend_from_slice(scalar::zero(kind));
    }
    Ok(())
}

/// The parts of an Any: `type_url` = 1 and `value` = 2.
pub(super) fn any(wire: &[u8]) -> Result<(&str, &[u8]), WireError> {
    let (mut url, mut value): (&str, &[u8]) = ("", b"");
    let mut cursor = Cursor::new(wire);
    while !cursor.is_empty() {
        match cursor.tag()? {
            (1, WireType::Bytes) => url = text::utf8(cursor.bytes()?)?,
            (2, WireType::Bytes) => value = cursor.bytes()?,
            (1 | 2, _) => return Err(WRONG_LAYOUT),
            (number, wire_type) => cursor.skip(number, wire_type)?,
        }
    }
    Ok((url, value))
}
