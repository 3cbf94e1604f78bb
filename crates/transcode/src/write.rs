//! Wire to JSON in one pass.
//!
//! - Fields are written by ascending number. Zero scalars and empty lists are written, too; a message, an `optional`
//!   field or a member of a oneof is written only if it is set.
//! - Wire that is not in that order is normalised first, and then written.
//! - Unknown fields are skipped.

mod leaf;
mod scalar;
mod text;
mod value;

use crate::bits::Bits;
use crate::entries::{Entry, repeated_key};
use crate::error::WireError;
use crate::normalise::{Stop, normalise};
use crate::table::{Cardinality, FieldKind, FieldTable, MAX_DEPTH, Message, MessageTable, Special, Tables};
use crate::wire::{Cursor, WRONG_LAYOUT, WireType, layout, packable};

impl Message {
    /// Appends the JSON of the message `wire` to `out`.
    ///
    /// # Errors
    ///
    /// `out` is as before if the wire is malformed, or if JSON cannot express it.
    pub fn to_json(&self, wire: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        let start = out.len();
        out.reserve(2 * wire.len());
        let mut writer = Writer { tables: &self.tables, out, normalises: false };
        let mut result = writer.message(self.table(), wire, 0);
        if matches!(result, Err(Stop::OutOfOrder)) {
            writer.out.truncate(start);
            // Normalises what is in each Any before it is written. To begin anew there as well would double the work
            // with each Any within another.
            writer.normalises = true;
            result = writer.in_order(self.table(), wire, 0);
        }
        result.map_err(|stop| {
            out.truncate(start);
            match stop {
                Stop::Error(error) => error,
                Stop::OutOfOrder => WireError::Malformed("it stays out of order"),
            }
        })
    }
}

struct Writer<'a> {
    tables: &'a Tables,
    out: &'a mut Vec<u8>,
    /// Whether wire was found out of order.
    normalises: bool,
}

impl Writer<'_> {
    fn in_order(&mut self, table: &MessageTable, wire: &[u8], depth: usize) -> Result<(), Stop> {
        let wire = normalise(&table.descriptor, wire)?;
        self.message(table, &wire, depth)
    }

    /// A message in its form. `depth` counts the messages, lists and maps around it.
    fn message(&mut self, table: &MessageTable, wire: &[u8], depth: usize) -> Result<(), Stop> {
        if depth >= MAX_DEPTH {
            return Err(WireError::TooDeep.into());
        }
        match table.special {
            Special::No | Special::Empty => {
                self.out.push(b'{');
                self.members(table, wire, depth + 1)?;
                self.out.push(b'}');
                Ok(())
            }
            Special::Any => self.any(wire, depth + 1),
            Special::Struct => value::write_struct(self.out, wire, depth),
            Special::Value => value::write_value(self.out, wire, depth),
            Special::ListValue => value::write_list(self.out, wire, depth),
            Special::Timestamp => Ok(leaf::write_timestamp(self.out, wire)?),
            Special::Duration => Ok(leaf::write_duration(self.out, wire)?),
            Special::FieldMask => Ok(leaf::write_field_mask(self.out, wire)?),
            Special::Wrapper => Ok(leaf::write_wrapper(self.out, table, wire)?),
        }
    }

    /// The members of an object, without braces.
    fn members(&mut self, table: &MessageTable, wire: &[u8], depth: usize) -> Result<(), Stop> {
        let fields = &*table.fields;
        let mut oneofs = Bits::default();
        // The fields before this one are written.
        let mut next = 0;
        let mut cursor = Cursor::new(wire);
        while !cursor.is_empty() {
            let (number, wire_type) = cursor.tag()?;
            let skipped = fields[next..].iter().take_while(|field| field.number < number).count();
            let Some(field) = fields.get(next + skipped).filter(|field| field.number == number) else {
                if fields[..next].binary_search_by_key(&number, |field| field.number).is_ok() {
                    return Err(Stop::OutOfOrder);
                }
                cursor.skip(number, wire_type)?;
                continue;
            };
            self.absent(&fields[next..next + skipped]);
            next += skipped + 1;
            if field.oneof.is_some_and(|oneof| oneofs.insert(oneof)) {
                return Err(Stop::OutOfOrder);
            }
            self.field(field, wire_type, &mut cursor, depth)?;
        }
        self.absent(&fields[next..]);
        Ok(())
    }

    /// The zeros of fields that are not on the wire.
    fn absent(&mut self, fields: &[FieldTable]) {
        for field in fields {
            let zero: &[u8] = match (field.cardinality, field.kind) {
                (Cardinality::Map, _) => b"{}",
                (Cardinality::Repeated, _) => b"[]",
                _ if field.presence => continue,
                (_, FieldKind::Scalar(kind)) => scalar::zero(kind),
                (_, FieldKind::Message(_)) => b"{}",
                (_, FieldKind::Enum(index)) => {
                    self.key(field);
                    self.number_of(index, 0);
                    continue;
                }
            };
            self.key(field);
            self.out.extend_from_slice(zero);
        }
    }

    /// The key of a member, with a comma before it unless it is the first one.
    fn key(&mut self, field: &FieldTable) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.extend_from_slice(&field.key);
    }

    /// A field whose first tag has been read, and all its elements if it is a list or a map.
    fn field(
        &mut self,
        field: &FieldTable,
        wire_type: WireType,
        cursor: &mut Cursor<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        self.key(field);
        match field.cardinality {
            Cardinality::Single => self.single(field, wire_type, cursor, depth),
            Cardinality::Repeated => self.list(field, wire_type, cursor, depth + 1),
            Cardinality::Map => self.map(field, wire_type, cursor, depth + 1),
        }
    }

    fn single(
        &mut self,
        field: &FieldTable,
        wire_type: WireType,
        cursor: &mut Cursor<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        match field.kind {
            FieldKind::Scalar(kind) if wire_type == layout(kind) => Ok(scalar::write(self.out, cursor, kind)?),
            FieldKind::Enum(index) if wire_type == WireType::Varint => {
                let number = cursor.varint()? as i32;
                self.number_of(index, number);
                Ok(())
            }
            FieldKind::Message(index) => {
                let wire = match wire_type {
                    WireType::Bytes if !field.group => cursor.bytes()?,
                    WireType::Group if field.group => cursor.group(field.number)?,
                    _ => return Err(WRONG_LAYOUT.into()),
                };
                let tables = self.tables;
                self.message(&tables.messages[index], wire, depth)
            }
            _ => Err(WRONG_LAYOUT.into()),
        }
    }

    /// An enum by name, or by number if it has no name.
    fn number_of(&mut self, index: usize, number: i32) {
        let tables = self.tables;
        let found = &tables.enums[index];
        match found.name(number) {
            _ if found.is_null => self.out.extend_from_slice(b"null"),
            Some(name) => text::string(self.out, name),
            None => text::integer(self.out, number),
        }
    }

    /// The elements, packed or not.
    fn list(
        &mut self,
        field: &FieldTable,
        mut wire_type: WireType,
        cursor: &mut Cursor<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        self.out.push(b'[');
        let start = self.out.len();
        let packed = match field.kind {
            FieldKind::Scalar(kind) => packable(kind).then(|| layout(kind)),
            FieldKind::Enum(_) => Some(WireType::Varint),
            FieldKind::Message(_) => None,
        };
        loop {
            match packed {
                Some(element) if wire_type == WireType::Bytes => {
                    let mut elements = Cursor::new(cursor.bytes()?);
                    while !elements.is_empty() {
                        self.comma(start);
                        self.single(field, element, &mut elements, depth)?;
                    }
                }
                _ => {
                    self.comma(start);
                    self.single(field, wire_type, cursor, depth)?;
                }
            }
            match cursor.tag_if(field.number)? {
                Some(next) => wire_type = next,
                None => break,
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn comma(&mut self, start: usize) {
        if self.out.len() > start {
            self.out.push(b',');
        }
    }

    fn map(
        &mut self,
        field: &FieldTable,
        mut wire_type: WireType,
        cursor: &mut Cursor<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        let tables = self.tables;
        let Some((key, value)) = tables.entry_of(field) else { return Err(WRONG_LAYOUT.into()) };
        if wire_type == WireType::Bytes && repeated_key(*cursor, field.number, key)?.is_some() {
            return Err(Stop::OutOfOrder);
        }
        self.out.push(b'{');
        let start = self.out.len();
        loop {
            if wire_type != WireType::Bytes {
                return Err(WRONG_LAYOUT.into());
            }
            self.comma(start);
            let entry = Entry::read(cursor.bytes()?, key)?;
            text::key(self.out, entry.key)?;
            self.value_of(value, entry, depth)?;
            match cursor.tag_if(field.number)? {
                Some(next) => wire_type = next,
                None => break,
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    fn value_of(&mut self, field: &FieldTable, entry: Entry<'_>, depth: usize) -> Result<(), Stop> {
        match (entry.value, field.kind) {
            (Some((wire_type, mut cursor)), _) => self.single(field, wire_type, &mut cursor, depth),
            (None, FieldKind::Message(_)) => self.single(field, WireType::Bytes, &mut Cursor::new(&[0]), depth),
            (None, FieldKind::Enum(index)) => {
                self.number_of(index, 0);
                Ok(())
            }
            (None, FieldKind::Scalar(kind)) => {
                self.out.extend_from_slice(scalar::zero(kind));
                Ok(())
            }
        }
    }

    /// An Any: the members of the message that it holds, behind its type. A message with a form of its own is `value`.
    fn any(&mut self, wire: &[u8], depth: usize) -> Result<(), Stop> {
        let (url, wire) = leaf::any(wire)?;
        self.out.push(b'{');
        if url.is_empty() && wire.is_empty() {
            self.out.push(b'}');
            return Ok(());
        }
        let name = url.rsplit_once('/').map_or("", |(_, name)| name);
        let tables = self.tables;
        let index = *tables.by_name.get(name).ok_or_else(|| WireError::UnknownType(url.to_owned()))?;
        let table = &tables.messages[index];
        self.out.extend_from_slice(b"\"@type\":");
        text::string(self.out, url);
        let normal;
        let wire = if self.normalises {
            normal = normalise(&table.descriptor, wire)?;
            &normal
        } else {
            wire
        };
        match table.special {
            Special::No | Special::Empty => self.members(table, wire, depth)?,
            _ => {
                self.out.extend_from_slice(b",\"value\":");
                self.message(table, wire, depth)?;
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}
