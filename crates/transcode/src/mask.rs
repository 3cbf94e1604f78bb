//! The `update_mask` of a PATCH, from the keys of its JSON body.
//!
//! Guarantees:
//! - A key names its field also if its value is `null`, empty or zero: a PATCH can clear a field.
//! - A key within a message names the inner field, and the message's other fields stay.
//! - Does not: check the JSON against the contract. Unknown keys name nothing.
//!
//! See AIP-134 and RFC 7396.

use std::fmt;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The paths of the fields that the JSON of a message names, in its order. `skip` leaves out a field with its path, and
/// all that is within it.
///
/// # Errors
///
/// The text is not JSON, or not an object.
pub(crate) fn paths(
    json: &[u8],
    message: &MessageDescriptor,
    skip: &dyn Fn(&str, &FieldDescriptor) -> bool,
) -> Result<Vec<String>, serde_json::Error> {
    let mut paths = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(json);
    Keys { message, prefix: "", skip, paths: &mut paths }.deserialize(&mut json)?;
    json.end()?;
    Ok(paths)
}

/// Reads the value of a message. serde_json bounds its depth.
struct Keys<'a> {
    message: &'a MessageDescriptor,
    /// The path of the message.
    prefix: &'a str,
    skip: &'a dyn Fn(&str, &FieldDescriptor) -> bool,
    paths: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    /// `null`: the message itself is cleared.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        if !self.prefix.is_empty() {
            self.paths.push(self.prefix.to_owned());
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let field = self.message.get_field_by_name(&key).or_else(|| self.message.get_field_by_json_name(&key));
            let Some(field) = field else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let path = if self.prefix.is_empty() {
                field.name().to_owned()
            } else {
                format!("{}.{}", self.prefix, field.name())
            };
            if (self.skip)(&path, &field) {
                map.next_value::<IgnoredAny>()?;
            } else if let Some(message) = of_fields(&field) {
                map.next_value_seed(Keys { message: &message, prefix: &path, skip: self.skip, paths: self.paths })?;
            } else {
                map.next_value::<IgnoredAny>()?;
                self.paths.push(path);
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(A::Error::custom("an array where an object was expected"))
    }
}

/// The message of a field that has fields of its own in JSON.
fn of_fields(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(message) if !field.is_list() && !field.is_map() => {
            (message.package_name() != "google.protobuf").then_some(message)
        }
        _ => None,
    }
}
