//! Reads and writes the pieces of protobuf's wire format.
//!
//! See <https://protobuf.dev/programming-guides/encoding/>.

use crate::error::WireError;
use crate::table::{Kind, MAX_DEPTH};

/// How a field is laid out on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Group = 3,
    GroupEnd = 4,
    Fixed32 = 5,
}

pub(crate) const WRONG_LAYOUT: WireError = WireError::Malformed("a field has the layout of another kind");
const TRUNCATED: WireError = WireError::Malformed("it ends within a field");
const UNPAIRED_GROUP: WireError = WireError::Malformed("a group has no start or no end");

/// Reads wire from front to back. A copy reads ahead.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    left: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(wire: &'a [u8]) -> Self {
        Self { left: wire }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// The number and layout of the next field.
    pub(crate) fn tag(&mut self) -> Result<(u32, WireType), WireError> {
        let tag = self.varint()?;
        let tag = u32::try_from(tag).map_err(|_| WireError::Malformed("a field number is out of range"))?;
        let wire_type = match tag & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::Group,
            4 => WireType::GroupEnd,
            5 => WireType::Fixed32,
            _ => return Err(WireError::Malformed("a field has an unknown layout")),
        };
        match tag >> 3 {
            0 => Err(WireError::Malformed("a field has number 0")),
            number => Ok((number, wire_type)),
        }
    }

    /// The layout of the next field if it has this number, with the cursor behind its tag. Else the cursor stays.
    pub(crate) fn tag_if(&mut self, number: u32) -> Result<Option<WireType>, WireError> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut ahead = *self;
        let (found, wire_type) = ahead.tag()?;
        if found != number {
            return Ok(None);
        }
        *self = ahead;
        Ok(Some(wire_type))
    }

    pub(crate) fn varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (at, &byte) in self.left.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                if at == 9 && byte > 1 {
                    break;
                }
                self.left = &self.left[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.left.len() < 10 { TRUNCATED } else { WireError::Malformed("an integer is longer than 64 bits") })
    }

    pub(crate) fn fixed32(&mut self) -> Result<[u8; 4], WireError> {
        let (value, left) = self.left.split_first_chunk().ok_or(TRUNCATED)?;
        self.left = left;
        Ok(*value)
    }

    pub(crate) fn fixed64(&mut self) -> Result<[u8; 8], WireError> {
        let (value, left) = self.left.split_first_chunk().ok_or(TRUNCATED)?;
        self.left = left;
        Ok(*value)
    }

    /// A value with its length in front.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], WireError> {
        let length = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
        let (value, left) = self.left.split_at_checked(length).ok_or(TRUNCATED)?;
        self.left = left;
        Ok(value)
    }

    /// What is in the group `number`, whose start has been read.
    pub(crate) fn group(&mut self, number: u32) -> Result<&'a [u8], WireError> {
        self.group_at(number, 0)
    }

    /// Skips the value of the field `number`.
    pub(crate) fn skip(&mut self, number: u32, wire_type: WireType) -> Result<(), WireError> {
        self.skip_at(number, wire_type, 0)
    }

    fn skip_at(&mut self, number: u32, wire_type: WireType, depth: usize) -> Result<(), WireError> {
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed64().map(drop),
            WireType::Bytes => self.bytes().map(drop),
            WireType::Fixed32 => self.fixed32().map(drop),
            WireType::Group => self.group_at(number, depth + 1).map(drop),
            WireType::GroupEnd => Err(UNPAIRED_GROUP),
        }
    }

    fn group_at(&mut self, number: u32, depth: usize) -> Result<&'a [u8], WireError> {
        if depth > MAX_DEPTH {
            return Err(WireError::TooDeep);
        }
        let start = self.left;
        loop {
            let length = start.len() - self.left.len();
            if self.is_empty() {
                return Err(UNPAIRED_GROUP);
            }
            match self.tag()? {
                (end, WireType::GroupEnd) if end == number => return Ok(&start[..length]),
                (found, wire_type) => self.skip_at(found, wire_type, depth)?,
            }
        }
    }
}

/// How a scalar or a message is laid out.
pub(crate) fn layout(kind: Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::Fixed32,
        Kind::String | Kind::Bytes | Kind::Message => WireType::Bytes,
        _ => WireType::Varint,
    }
}

/// Whether a list of this kind may be packed.
pub(crate) fn packable(kind: Kind) -> bool {
    layout(kind) != WireType::Bytes
}

/// An sint32 from its varint.
pub(crate) fn zigzag32(varint: u64) -> i32 {
    let value = varint as u32;
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

/// An sint64 from its varint.
pub(crate) fn zigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: WireType) {
    put_varint(out, u64::from(number << 3 | wire_type as u32));
}

/// Writes a tag and a value with its length in front.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    put_tag(out, number, WireType::Bytes);
    put_varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Begins a value whose length is not known yet. [`end`] takes what is returned.
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    out.push(0);
    out.len()
}

/// Writes the length of the value that began at `start`. A value of 128 bytes or more moves up.
pub(crate) fn end(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    if length < 0x80 {
        out[start - 1] = length as u8;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, length as u64);
    out.splice(start - 1..start, prefix);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_of_any_length_is_read_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX >> 1, u64::MAX] {
            let mut wire = Vec::new();
            put_varint(&mut wire, value);
            let mut cursor = Cursor::new(&wire);
            assert_eq!(cursor.varint(), Ok(value));
            assert!(cursor.is_empty());
        }
    }

    #[test]
    fn malformed_wire_is_an_error() {
        let varint = |wire: &[u8]| Cursor::new(wire).varint();
        assert_eq!(varint(&[0x80]), Err(TRUNCATED));
        assert!(varint(&[0xff; 10]).is_err(), "more than ten bytes");
        assert!(varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).is_err(), "more than 64 bits");
        assert_eq!(Cursor::new(&[5, b'a']).bytes(), Err(TRUNCATED));
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]).bytes().is_err());
        assert!(Cursor::new(&[2]).tag().is_err(), "number 0");
        assert!(Cursor::new(&[14]).tag().is_err(), "layout 6");
    }

    #[test]
    fn group_ends_at_its_own_end() {
        // Group 1 holds group 2, which holds field 3.
        let wire = [0x13, 0x18, 7, 0x14, 0x0c, 0x20];
        let mut cursor = Cursor::new(&wire);
        assert_eq!(cursor.group(1), Ok(&wire[..4]));
        assert!(!cursor.is_empty());
        assert_eq!(Cursor::new(&[0x14]).group(1), Err(UNPAIRED_GROUP));
        assert_eq!(Cursor::new(&[]).group(1), Err(UNPAIRED_GROUP));
        assert_eq!(Cursor::new(&[0x0b; 10_000]).group(1), Err(WireError::TooDeep));
    }

    #[test]
    fn length_is_written_when_the_value_is_complete() {
        for length in [0, 1, 127, 128, 20_000] {
            let mut wire = vec![7];
            let start = begin(&mut wire);
            wire.resize(wire.len() + length, b'x');
            end(&mut wire, start);
            let mut cursor = Cursor::new(&wire[1..]);
            assert_eq!(cursor.bytes().map(<[u8]>::len), Ok(length));
            assert!(cursor.is_empty());
        }
    }
}
