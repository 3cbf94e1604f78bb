//! What a message says, as text: two messages with the same text are equal to every reader of JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, ReflectMessage as _, Value};

/// Equal messages have one text, whatever the order of their wire. Unknown fields are left out, since JSON has none of
/// them; a `Value` that holds nothing is null; all NaNs are one.
pub(super) fn content(pool: &DescriptorPool, message: &DynamicMessage) -> String {
    let mut out = String::new();
    write_message(&mut out, pool, message);
    out
}

fn write_message(out: &mut String, pool: &DescriptorPool, message: &DynamicMessage) {
    let descriptor = message.descriptor();
    let name = descriptor.full_name();
    if name == "google.protobuf.Any" {
        return write_any(out, pool, message);
    }
    let fields: BTreeMap<_, _> = message.fields().map(|(field, value)| (field.number(), value)).collect();
    if name == "google.protobuf.Value" && fields.is_empty() {
        return out.push_str("{1:0}");
    }
    out.push('{');
    for (number, value) in fields {
        let _ = write!(out, "{number}:");
        let is_null = descriptor
            .get_field(number)
            .and_then(|field| field.kind().as_enum().map(|found| found.full_name() == "google.protobuf.NullValue"));
        // Whatever its number, JSON has null for it.
        if is_null == Some(true) {
            out.push('0')
        } else {
            write_value(out, pool, value)
        }
        out.push(' ');
    }
    if out.ends_with(' ') {
        out.pop();
    }
    out.push('}');
}

fn write_any(out: &mut String, pool: &DescriptorPool, any: &DynamicMessage) {
    let field = |name| any.get_field_by_name(name).expect("a field of Any").into_owned();
    let (url, wire) = (field("type_url"), field("value"));
    let url = url.as_str().expect("text");
    let _ = write!(out, "{url:?}=");
    if let Some(descriptor) = url.rsplit_once('/').and_then(|(_, name)| pool.get_message_by_name(name)) {
        let wire = wire.as_bytes().expect("bytes").clone();
        write_message(out, pool, &DynamicMessage::decode(descriptor, wire).expect("what JSON was written of"));
    }
}

fn write_value(out: &mut String, pool: &DescriptorPool, value: &Value) {
    let _ = match value {
        Value::Message(message) => {
            write_message(out, pool, message);
            Ok(())
        }
        Value::List(list) => {
            out.push('[');
            for element in list {
                write_value(out, pool, element);
                out.push(',');
            }
            out.push(']');
            Ok(())
        }
        Value::Map(map) => {
            let sorted: BTreeMap<_, _> = map.iter().map(|(key, value)| (key_text(key), value)).collect();
            for (key, value) in sorted {
                let _ = write!(out, "{key}=>");
                write_value(out, pool, value);
                out.push(',');
            }
            Ok(())
        }
        Value::F64(number) if number.is_nan() => write!(out, "NaN"),
        Value::F32(number) if number.is_nan() => write!(out, "NaN"),
        Value::F64(number) => write!(out, "{:x}", number.to_bits()),
        Value::F32(number) => write!(out, "{:x}", number.to_bits()),
        other => write!(out, "{other:?}"),
    };
}

fn key_text(key: &MapKey) -> String {
    format!("{key:?}")
}
