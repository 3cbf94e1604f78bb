//! What the bounds of a field allow.

use mesh_proto::buf::validate::field_rules::Type;
use mesh_proto::buf::validate::{FieldRules, Ignore};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, Value};
use regex::Regex;

/// The form of a UUID.
const UUID: &str = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";

/// The bounds of a field, or of the elements of a list.
pub(super) struct Rules {
    given: FieldRules,
    /// The type of an enum.
    values: Option<EnumDescriptor>,
}

/// `google.protobuf.FieldOptions`.
#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(message, optional, tag = "1159")]
    field: Option<FieldRules>,
}

impl Rules {
    pub(super) fn of(field: &FieldDescriptor) -> Self {
        let options: Options = field.options().transcode_to().expect("the options of a field");
        let values = if let Kind::Enum(values) = field.kind() { Some(values) } else { None };
        Self { given: options.field.unwrap_or_default(), values }
    }

    /// Those of each element.
    pub(super) fn items(&self) -> Self {
        let items = match self.kind() {
            Some(Type::Repeated(list)) => list.items.as_deref().cloned(),
            _ => None,
        };
        Self { given: items.unwrap_or_default(), values: self.values.clone() }
    }

    pub(super) fn required(&self) -> bool {
        self.given.required()
    }

    /// Those of the type of the field.
    pub(super) fn kind(&self) -> Option<&Type> {
        self.given.r#type.as_ref()
    }

    /// Whether a value is within the bounds.
    pub(super) fn allow(&self, value: &Value) -> bool {
        if is_zero(value) && (self.required() || self.given.ignore() == Ignore::IfZeroValue) {
            return !self.required();
        }
        match (self.kind(), value) {
            (None, _) => true,
            (Some(Type::Int32(rules)), Value::I32(number)) => within(number, &rules.gte, &rules.lte),
            (Some(Type::Int64(rules)), Value::I64(number)) => within(number, &rules.gte, &rules.lte),
            (Some(Type::String(rules)), Value::String(text)) => {
                within(&length(text.chars()), &rules.min_len, &rules.max_len)
                    && rules.pattern.iter().all(|pattern| matches(pattern, text))
                    && (!rules.uuid() || matches(UUID, text))
            }
            (Some(Type::Bytes(rules)), Value::Bytes(bytes)) => within(&length(bytes), &rules.min_len, &rules.max_len),
            (Some(Type::Enum(rules)), Value::EnumNumber(number)) => {
                let defined = self.values.as_ref().is_some_and(|values| values.get_value(*number).is_some());
                (defined || !rules.defined_only()) && !rules.not_in.contains(number)
            }
            (Some(Type::Repeated(rules)), Value::List(elements)) => {
                let items = self.items();
                within(&length(elements), &rules.min_items, &rules.max_items)
                    && elements.iter().all(|element| items.allow(element))
            }
            (Some(Type::Duration(rules)), Value::Message(duration)) => {
                let duration: prost_types::Duration = duration.transcode_to().expect("a duration");
                let least = rules.gte.as_ref().map(|least| (least.seconds, least.nanos));
                within(&(duration.seconds, duration.nanos), &least, &None)
            }
            (Some(rules), value) => panic!("the bounds {rules:?} are not those of the type of {value:?}"),
        }
    }
}

fn within<T: PartialOrd>(value: &T, least: &Option<T>, most: &Option<T>) -> bool {
    least.as_ref().is_none_or(|least| value >= least) && most.as_ref().is_none_or(|most| value <= most)
}

fn length(items: impl IntoIterator) -> u64 {
    items.into_iter().fold(0, |length, _| length + 1)
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).expect("a pattern").is_match(text)
}

/// Whether a value is what an absent field has.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::I32(number) | Value::EnumNumber(number) => *number == 0,
        Value::I64(number) => *number == 0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(elements) => elements.is_empty(),
        _ => false,
    }
}
