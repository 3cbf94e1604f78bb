//! Values on both sides of the bounds of a field.

use mesh_proto::buf::validate::field_rules::Type;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};

use super::rules::Rules;

/// A length that no field without a bound refuses.
const LONG: usize = 10_000;

/// In place of a UUID that the valid request does not have.
const UUID: &str = "0199e4a8-0000-7000-8000-000000000000";

/// Values for a field in place of `valid`.
pub(super) fn of(valid: &Value, kind: &Kind, rules: &Rules) -> Vec<Value> {
    match (valid, kind) {
        (Value::String(valid), _) => texts(valid, rules).into_iter().map(Value::String).collect(),
        (Value::Bytes(valid), _) => bytes(valid, rules),
        (Value::I32(_), _) => {
            let bounds = if let Some(Type::Int32(rules)) = rules.kind() { [rules.gte, rules.lte] } else { [None; 2] };
            let near = bounds.into_iter().flatten().flat_map(|end| [end.saturating_sub(1), end, end.saturating_add(1)]);
            near.chain([i32::MIN, 0, i32::MAX]).map(Value::I32).collect()
        }
        (Value::I64(_), _) => {
            let bounds = if let Some(Type::Int64(rules)) = rules.kind() { [rules.gte, rules.lte] } else { [None; 2] };
            let near = bounds.into_iter().flatten().flat_map(|end| [end.saturating_sub(1), end, end.saturating_add(1)]);
            near.chain([i64::MIN, 0, i64::MAX]).map(Value::I64).collect()
        }
        (Value::EnumNumber(_), Kind::Enum(values)) => {
            let numbers: Vec<_> = values.values().map(|value| value.number()).collect();
            let undefined = numbers.iter().max().map(|last| last.saturating_add(1));
            numbers.into_iter().chain(undefined).chain([-1]).map(Value::EnumNumber).collect()
        }
        (_, Kind::Message(message)) if message.full_name() == "google.protobuf.Duration" => durations(message, rules),
        _ => Vec::new(),
    }
}

/// Lists for a field whose elements are as `valid`.
pub(super) fn of_list(valid: &Value, kind: &Kind, rules: &Rules) -> Vec<Value> {
    let mut counts = vec![0, 1];
    if let Some(Type::Repeated(rules)) = rules.kind() {
        counts.extend(around(rules.min_items).into_iter().chain(around(rules.max_items)));
    }
    let lists = counts.into_iter().map(|count| vec![valid.clone(); count]);
    // Each element alone, and behind a valid one.
    let elements = of(valid, kind, &rules.items()).into_iter();
    let elements = elements.flat_map(|element| [vec![element.clone()], vec![valid.clone(), element]]);
    lists.chain(elements).map(Value::List).collect()
}

fn texts(valid: &str, rules: &Rules) -> Vec<String> {
    let Some(Type::String(rules)) = rules.kind() else { return vec![String::new(), "x".repeat(LONG)] };
    let valid = if rules.uuid() && valid.is_empty() { UUID } else { valid };
    let mut texts = vec![String::new(), valid.to_owned()];
    let lengths = around(rules.min_len).into_iter().chain(around(rules.max_len));
    // A character of two bytes: a bound counts characters.
    texts.extend(lengths.map(|length| valid.chars().chain(std::iter::repeat('é')).take(length).collect()));
    if rules.max_len.is_none() {
        texts.push("x".repeat(LONG));
    }
    if rules.uuid() {
        texts.push(valid.to_uppercase());
    }
    if rules.uuid() || rules.pattern.is_some() {
        let mut cut = valid.to_owned();
        cut.pop();
        texts.extend([cut, format!("{valid}0"), format!("{valid}/"), format!("{valid}\n"), format!("/{valid}")]);
        texts.extend([valid.replace('-', ""), valid.replace('/', "//"), valid.replacen('s', "S", 1)]);
        texts.extend([format!("{{{valid}}}"), format!("urn:uuid:{valid}")]);
        // A name without its last part.
        texts.extend(valid.rfind('/').map(|end| valid[..=end].to_owned()));
    }
    texts
}

/// Bytes as long as the bounds and near them, if they are longer than `valid`, which may have a format of its own.
fn bytes(valid: &[u8], rules: &Rules) -> Vec<Value> {
    let lengths = match rules.kind() {
        Some(Type::Bytes(rules)) => [around(rules.min_len), around(rules.max_len)].concat(),
        _ => vec![valid.len() + LONG],
    };
    let lengths = lengths.into_iter().filter(|length| *length >= valid.len()).chain([0]);
    let padded = |length| valid.iter().copied().chain(std::iter::repeat(0)).take(length).collect::<Vec<_>>();
    lengths.map(|length| Value::Bytes(padded(length).into())).collect()
}

fn durations(message: &MessageDescriptor, rules: &Rules) -> Vec<Value> {
    let least = if let Some(Type::Duration(rules)) = rules.kind() { rules.gte } else { None }.unwrap_or_default();
    let later = |nanoseconds: i32| {
        let duration = prost_types::Duration { nanos: least.nanos + nanoseconds, ..least };
        let mut value = DynamicMessage::new(message.clone());
        value.transcode_from(&duration).expect("a duration");
        Value::Message(value)
    };
    [-1, 0, 1].map(later).into()
}

/// A bound, and the lengths beside it.
fn around(bound: Option<u64>) -> Vec<usize> {
    let bound = bound.and_then(|bound| usize::try_from(bound).ok());
    bound.into_iter().flat_map(|bound| [bound.saturating_sub(1), bound, bound.saturating_add(1)]).collect()
}
