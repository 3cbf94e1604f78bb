//! Compares bounds of fields, `buf.validate`: whether a receiver takes less than the sender may send.

use mesh_proto::buf::validate::{
    BytesRules, DurationRules, EnumRules, FieldRules, Int32Rules, Int64Rules, RepeatedRules, StringRules,
    field_rules::Type,
};
use prost::Message as _;

/// What the bounds of a receiver refuse and those of a sender allow, each with whether it is certain.
pub(crate) fn narrower(sent: &FieldRules, read: &FieldRules) -> Vec<(bool, String)> {
    let (Some(read_type), mut found) = (&read.r#type, Vec::new()) else { return Vec::new() };
    // Rules of another type are those of a field without bounds.
    let sent_type = sent.r#type.as_ref();
    macro_rules! sent {
        ($variant:ident) => {
            match sent_type {
                Some(Type::$variant(rules)) => rules.clone(),
                _ => Default::default(),
            }
        };
    }
    match read_type {
        Type::Int32(read) => {
            let sent: Int32Rules = sent!(Int32);
            found.extend(most(sent.lte, read.lte, "is at most"));
            found.extend(least(sent.gte, read.gte, "is at least"));
        }
        Type::Int64(read) => {
            let sent: Int64Rules = sent!(Int64);
            found.extend(most(sent.lte, read.lte, "is at most"));
            found.extend(least(sent.gte, read.gte, "is at least"));
        }
        Type::String(read) => {
            let sent: StringRules = sent!(String);
            found.extend(most(sent.max_len, read.max_len, "has a length of at most"));
            found.extend(least(sent.min_len.or(Some(0)), read.min_len, "has a length of at least"));
            if read.uuid() && !sent.uuid() {
                found.push((true, "is a UUID".to_owned()));
            }
            match (sent.pattern.as_deref(), read.pattern.as_deref()) {
                (None, Some(pattern)) => found.push((true, format!("has the pattern {pattern}"))),
                (Some(before), Some(pattern)) if before != pattern => {
                    found.push((false, format!("has another pattern, {pattern},")));
                }
                _ => {}
            }
        }
        Type::Bytes(read) => {
            let sent: BytesRules = sent!(Bytes);
            found.extend(most(sent.max_len, read.max_len, "has a length of at most"));
            found.extend(least(sent.min_len.or(Some(0)), read.min_len, "has a length of at least"));
        }
        Type::Enum(read) => {
            let sent: EnumRules = sent!(Enum);
            if read.defined_only() && !sent.defined_only() {
                found.push((false, "has only values that are defined".to_owned()));
            }
            let added: Vec<_> = read.not_in.iter().filter(|value| !sent.not_in.contains(value)).collect();
            if !added.is_empty() {
                found.push((true, format!("is none of {added:?}")));
            }
        }
        Type::Repeated(read) => {
            let sent: Box<RepeatedRules> = sent!(Repeated);
            found.extend(most(sent.max_items, read.max_items, "has a number of elements of at most"));
            found.extend(least(sent.min_items.or(Some(0)), read.min_items, "has a number of elements of at least"));
            if let Some(items) = read.items.as_deref() {
                let none = FieldRules::default();
                found.extend(narrower(sent.items.as_deref().unwrap_or(&none), items));
            }
        }
        Type::Duration(read) => {
            let sent: DurationRules = sent!(Duration);
            if read.gte.is_some() && sent.encode_to_vec() != read.encode_to_vec() {
                found.push((false, "has other bounds".to_owned()));
            }
        }
    }
    found
}

/// A new or lower upper bound.
fn most<T: PartialOrd + std::fmt::Display>(sent: Option<T>, read: Option<T>, what: &str) -> Option<(bool, String)> {
    let read = read?;
    sent.is_none_or(|sent| read < sent).then(|| (true, format!("{what} {read}")))
}

/// A new or higher lower bound.
fn least<T: PartialOrd + std::fmt::Display>(sent: Option<T>, read: Option<T>, what: &str) -> Option<(bool, String)> {
    let read = read?;
    sent.is_none_or(|sent| read > sent).then(|| (true, format!("{what} {read}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_bound_of_zero_is_none() {
        let of = |rules: Type| FieldRules { r#type: Some(rules), ..FieldRules::default() };
        let text = |min_len| of(Type::String(StringRules { min_len, ..StringRules::default() }));
        let bytes = |min_len| of(Type::Bytes(BytesRules { min_len, ..BytesRules::default() }));
        let list = |min_items| of(Type::Repeated(Box::new(RepeatedRules { min_items, ..RepeatedRules::default() })));
        for rules in [&text as &dyn Fn(Option<u64>) -> FieldRules, &bytes, &list] {
            for (sent, read, is_narrower) in
                [(None, Some(0), false), (None, Some(1), true), (Some(0), Some(1), true), (Some(1), Some(0), false)]
            {
                assert_eq!(!narrower(&rules(sent), &rules(read)).is_empty(), is_narrower, "{sent:?} {read:?}");
            }
        }
    }
}
