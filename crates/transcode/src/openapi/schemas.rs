//! The schemas of messages and enums.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

use super::bounds::Bounds;
use super::comments::Comments;
use crate::annotations::Behavior;
use crate::json::{Json, Object};

/// An int64 in decimals, but for those above 9,220 quadrillions, which would make the pattern unreadable.
const INT64: &str = "^-?([0-9]{1,18}|[1-8][0-9]{18}|9[01][0-9]{17}|92[01][0-9]{16})$";
const UINT64: &str = "^([0-9]{1,19}|1[0-7][0-9]{18})$";
const DURATION: &str = r"^-?[0-9]{1,11}(\.[0-9]{1,9})?s$";
const DURATION_FROM_ZERO: &str = r"^[0-9]{1,11}(\.[0-9]{1,9})?s$";

/// The schemas that a document refers to, by their names.
#[derive(Default)]
pub(super) struct Schemas {
    pub(super) comments: Comments,
    done: BTreeMap<String, Json>,
    /// Messages that the document refers to and that have no schema yet.
    open: Vec<MessageDescriptor>,
    known: BTreeSet<String>,
    /// Messages whose `request_id` a header may give.
    given_by_header: BTreeSet<String>,
}

impl Schemas {
    /// Refers to the schema of a message.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Object {
        if let Some(schema) = special(message.full_name()) {
            return schema;
        }
        if self.known.insert(message.full_name().to_owned()) {
            self.open.push(message.clone());
        }
        reference(message.full_name())
    }

    /// The schema of a body that has not all fields of a message: not the fields `without`, and, if `partial`, none
    /// that the server sets and none that is required.
    pub(super) fn body(&mut self, message: &MessageDescriptor, without: &[String], partial: bool) -> Object {
        if !partial && without.is_empty() {
            return self.message(message);
        }
        let left_out = |field: &FieldDescriptor| {
            without.iter().any(|name| name == field.name()) || (partial && Behavior::of(field).output_only)
        };
        let kept = message.fields().filter(|field| !left_out(field));
        let kept: Vec<_> = kept.collect();
        self.object(message, &kept, partial)
    }

    /// Notes that a header may give the `request_id` of a message, which a body then need not have.
    pub(super) fn given_by_header(&mut self, message: &MessageDescriptor) {
        self.given_by_header.insert(message.full_name().to_owned());
    }

    /// Adds a schema that no contract has.
    pub(super) fn add(&mut self, name: &str, schema: Object) {
        self.done.insert(name.to_owned(), schema.into());
    }

    /// All schemas, in the order of their names.
    pub(super) fn finish(mut self) -> Object {
        // A schema opens further ones. The loop ends, because each is opened once.
        while let Some(message) = self.open.pop() {
            let fields: Vec<_> = message.fields().collect();
            let schema = self.object(&message, &fields, false);
            self.done.insert(message.full_name().to_owned(), schema.into());
        }
        self.done.into_iter().collect()
    }

    /// The schema of a message. If it is `partial`, any field may be absent, and the present ones count.
    fn object(&mut self, message: &MessageDescriptor, fields: &[FieldDescriptor], partial: bool) -> Object {
        let comment = self.comments.of(&message.parent_file(), message.path());
        let choices = message.oneofs().filter(|oneof| !oneof.is_synthetic()).map(|oneof| {
            let names: Vec<_> = oneof.fields().map(|field| format!("`{}`", field.json_name())).collect();
            format!("At most one of {} has a value.", names.join(", "))
        });
        let description = [comment].into_iter().chain(choices).filter(|text| !text.is_empty()).collect::<Vec<_>>();
        let property = |field: &FieldDescriptor| (field.json_name().to_owned(), self.field(field, partial));
        let properties: Object = fields.iter().map(property).collect();
        let by_header = self.given_by_header.contains(message.full_name());
        let needed = fields.iter().filter(|field| !partial && Behavior::of(field).required);
        let needed = needed.filter(|field| !(by_header && field.name() == "request_id"));
        let needed: Vec<_> = needed.map(|field| field.json_name().to_owned()).collect();
        Object::new()
            .with("type", "object")
            .with_some("description", description.join("\n\n"))
            .with("properties", properties)
            .with_some("required", needed)
            .with("additionalProperties", false)
    }

    fn field(&mut self, field: &FieldDescriptor, partial: bool) -> Json {
        let behavior = Behavior::of(field);
        let bounds = Bounds::of(field);
        // A field that may be left out is written as zero. A partial body names the fields that it has.
        let bounds = if behavior.required || partial { bounds } else { bounds.or_zero() };
        let description = self.comments.of(&field.parent_message().parent_file(), field.path());
        let mut schema = self.bounded(field, &bounds).with_some("description", description);
        if behavior.output_only {
            schema = schema.with("readOnly", true);
        }
        if behavior.input_only {
            schema = schema.with("writeOnly", true);
        }
        schema.into()
    }

    /// The schema of a field's value: of a list, a map, or one value.
    pub(super) fn value(&mut self, field: &FieldDescriptor) -> Object {
        self.bounded(field, &Bounds::of(field))
    }

    fn bounded(&mut self, field: &FieldDescriptor, bounds: &Bounds) -> Object {
        if field.is_list() {
            let items = self.kind(&field.kind(), &bounds.items());
            return Object::new().with("type", "array").with("items", items).and(bounds.of_list());
        }
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let value = self.kind(&entry.map_entry_value_field().kind(), &Bounds::default());
            return Object::new().with("type", "object").with("additionalProperties", value);
        }
        self.kind(&field.kind(), bounds)
    }

    fn kind(&mut self, kind: &Kind, bounds: &Bounds) -> Object {
        let typed = |name: &str| Object::new().with("type", name);
        match kind {
            Kind::Double => typed("number").with("format", "double"),
            Kind::Float => typed("number").with("format", "float"),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                typed("integer").with("format", "int32").and(bounds.of_int32())
            }
            Kind::Uint32 | Kind::Fixed32 => {
                typed("integer").with("format", "int64").with("minimum", 0).with("maximum", i64::from(u32::MAX))
            }
            // Generators of clients break on a type of several names, and JSON's own numbers are doubles.
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                let pattern = bounds.of_int64().unwrap_or_else(|| INT64.to_owned());
                typed("string").with("format", "int64").with("pattern", pattern)
            }
            Kind::Uint64 | Kind::Fixed64 => typed("string").with("format", "uint64").with("pattern", UINT64),
            Kind::Bool => typed("boolean"),
            Kind::String => typed("string").and(bounds.of_text()),
            Kind::Bytes => typed("string").with("contentEncoding", "base64").and(bounds.of_bytes()),
            Kind::Enum(found) => self.enumeration(found, bounds),
            Kind::Message(message)
                if message.full_name() == "google.protobuf.Duration" && bounds.no_negative_duration() =>
            {
                typed("string").with("pattern", DURATION_FROM_ZERO)
            }
            Kind::Message(message) => self.message(message),
        }
    }

    /// The schema of an enum, or one of a field's own if it does not allow all values.
    fn enumeration(&mut self, found: &EnumDescriptor, bounds: &Bounds) -> Object {
        let name = found.full_name();
        if name == "google.protobuf.NullValue" {
            return Object::new().with("type", "null");
        }
        let allowed = found.values().filter(|value| bounds.allow_enum(value.number()));
        let allowed: Vec<_> = allowed.map(|value| value.name().to_owned()).collect();
        let all = allowed.len() == found.values().len();
        let schema = Object::new().with("type", "string").with("enum", allowed);
        if !all {
            return schema;
        }
        if !self.done.contains_key(name) {
            let schema = schema.with_some("description", self.described(found));
            self.done.insert(name.to_owned(), schema.into());
        }
        reference(name)
    }

    /// The comments of an enum and its values.
    fn described(&mut self, found: &EnumDescriptor) -> String {
        let file = found.parent_file();
        let mut lines = vec![self.comments.of(&file, found.path())];
        for value in found.values() {
            let comment = self.comments.of(&file, value.path()).replace('\n', " ");
            if !comment.is_empty() {
                lines.push(format!("- `{}`: {comment}", value.name()));
            }
        }
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }
}

fn reference(name: &str) -> Object {
    Object::new().with("$ref", format!("#/components/schemas/{name}"))
}

/// The schema of a message that JSON writes in a form of its own.
fn special(name: &str) -> Option<Object> {
    let typed = |name: &str| Object::new().with("type", name);
    Some(match name.strip_prefix("google.protobuf.")? {
        "Any" => typed("object")
            .with("properties", Object::new().with("@type", typed("string")))
            .with("required", vec!["@type"])
            .with("additionalProperties", true),
        "Duration" => typed("string").with("pattern", DURATION),
        "Empty" => typed("object").with("additionalProperties", false),
        "FieldMask" => typed("string").with("pattern", "^([a-zA-Z0-9.]+(,[a-zA-Z0-9.]+)*)?$"),
        "ListValue" => typed("array").with("items", Object::new()),
        "Struct" => typed("object").with("additionalProperties", true),
        "Timestamp" => typed("string").with("format", "date-time"),
        "Value" => Object::new(),
        "StringValue" => typed("string"),
        "BytesValue" => typed("string").with("contentEncoding", "base64"),
        "BoolValue" => typed("boolean"),
        "DoubleValue" => typed("number").with("format", "double"),
        "FloatValue" => typed("number").with("format", "float"),
        "Int32Value" => typed("integer").with("format", "int32"),
        "UInt32Value" => typed("integer").with("format", "int64").with("minimum", 0),
        "Int64Value" => typed("string").with("format", "int64").with("pattern", INT64),
        "UInt64Value" => typed("string").with("format", "uint64").with("pattern", UINT64),
        _ => return None,
    })
}
