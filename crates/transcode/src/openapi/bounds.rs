//! The bounds of fields, `buf.validate.field`, as keywords of JSON Schema.
//!
//! - The length of a text is the same number: protobuf's `min_len` and JSON Schema's `minLength` both count characters,
//!   which are Unicode code points.
//! - A length in bytes becomes that of the base64, whose padding is optional.
//! - An int64 is a text in JSON, so its range becomes a pattern.

use prost_reflect::FieldDescriptor;

use super::decimals::decimals;
use crate::json::Object;

/// The bounds of a field, as far as a schema can state them: `buf.validate.FieldRules`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Bounds {
    #[prost(message, optional, tag = "3")]
    int32: Option<Range>,
    #[prost(message, optional, tag = "4")]
    int64: Option<Range>,
    #[prost(message, optional, tag = "14")]
    string: Option<Lengths>,
    #[prost(message, optional, tag = "15")]
    bytes: Option<Lengths>,
    #[prost(message, optional, tag = "16")]
    values: Option<Values>,
    #[prost(message, optional, boxed, tag = "18")]
    repeated: Option<Box<Elements>>,
    #[prost(message, optional, tag = "21")]
    duration: Option<Durations>,
    #[prost(int32, tag = "27")]
    ignore: i32,
}

/// `Int32Rules` or `Int64Rules`: both have the same wire.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Range {
    #[prost(int64, optional, tag = "3")]
    lte: Option<i64>,
    #[prost(int64, optional, tag = "5")]
    gte: Option<i64>,
}

/// `StringRules` or `BytesRules`.
#[derive(Clone, PartialEq, prost::Message)]
struct Lengths {
    #[prost(uint64, optional, tag = "2")]
    min_len: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    max_len: Option<u64>,
    /// Of texts only.
    #[prost(string, tag = "6")]
    pattern: String,
    /// Of texts only.
    #[prost(bool, tag = "22")]
    uuid: bool,
}

/// `EnumRules`.
#[derive(Clone, PartialEq, prost::Message)]
struct Values {
    #[prost(int32, repeated, tag = "4")]
    not_in: Vec<i32>,
}

/// `RepeatedRules`.
#[derive(Clone, PartialEq, prost::Message)]
struct Elements {
    #[prost(uint64, optional, tag = "1")]
    min_items: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    max_items: Option<u64>,
    #[prost(message, optional, tag = "4")]
    items: Option<Bounds>,
}

/// `DurationRules`.
#[derive(Clone, PartialEq, prost::Message)]
struct Durations {
    #[prost(message, optional, tag = "6")]
    gte: Option<prost_types::Duration>,
}

/// `google.protobuf.FieldOptions`.
#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(message, optional, tag = "1159")]
    field: Option<Bounds>,
}

/// `IGNORE_IF_ZERO_VALUE` of `buf.validate.Ignore`.
const IGNORE_IF_ZERO_VALUE: i32 = 1;

impl Bounds {
    /// The bounds of a field. An option that cannot be read counts as none.
    pub(super) fn of(field: &FieldDescriptor) -> Self {
        field.options().transcode_to().ok().and_then(|options: Options| options.field).unwrap_or_default()
    }

    /// The bounds of a field that may also be zero, if they do not count for a zero. JSON writes zeros.
    pub(super) fn or_zero(mut self) -> Self {
        if self.ignore != IGNORE_IF_ZERO_VALUE {
            return self;
        }
        for range in [&mut self.int32, &mut self.int64].into_iter().flatten() {
            range.gte = range.gte.filter(|gte| *gte <= 0);
            range.lte = range.lte.filter(|lte| *lte >= 0);
        }
        for lengths in [&mut self.string, &mut self.bytes].into_iter().flatten() {
            *lengths = Lengths { max_len: lengths.max_len, ..Lengths::default() };
        }
        if let Some(values) = &mut self.values {
            values.not_in.retain(|number| *number != 0);
        }
        if let Some(elements) = &mut self.repeated {
            elements.min_items = None;
        }
        self
    }

    /// The bounds of each element of a list.
    pub(super) fn items(&self) -> Self {
        self.repeated.as_ref().and_then(|elements| elements.items.clone()).unwrap_or_default()
    }

    /// The keywords for a list.
    pub(super) fn of_list(&self) -> Object {
        let elements = self.repeated.clone().unwrap_or_default();
        between("Items", elements.min_items, elements.max_items)
    }

    /// The keywords for a text.
    pub(super) fn of_text(&self) -> Object {
        let lengths = self.string.clone().unwrap_or_default();
        between("Length", lengths.min_len, lengths.max_len)
            .with_some("pattern", lengths.pattern)
            .with_some("format", if lengths.uuid { "uuid" } else { "" })
    }

    /// A pattern for one of the `count` segments of a path that is a text. Empty if that of the text does not tell.
    pub(super) fn of_segment(&self, at: usize, count: usize) -> String {
        let pattern = self.string.as_ref().map_or("", |lengths| lengths.pattern.as_str());
        let whole = pattern.strip_prefix('^').and_then(|pattern| pattern.strip_suffix('$')).unwrap_or_default();
        let segments = segments(whole);
        if segments.len() != count {
            return String::new();
        }
        segments.get(at).map(|segment| format!("^{segment}$")).unwrap_or_default()
    }

    /// The keywords for bytes, which are base64.
    pub(super) fn of_bytes(&self) -> Object {
        let lengths = self.bytes.clone().unwrap_or_default();
        let unpadded = |bytes: u64| bytes.saturating_mul(4).div_ceil(3);
        let padded = |bytes: u64| bytes.div_ceil(3).saturating_mul(4);
        between("Length", lengths.min_len.map(unpadded), lengths.max_len.map(padded))
    }

    /// The keywords for a number of 32 bits.
    pub(super) fn of_int32(&self) -> Object {
        let Range { gte, lte } = self.int32.unwrap_or_default();
        Object::new().with("minimum", gte.unwrap_or(i32::MIN.into())).with("maximum", lte.unwrap_or(i32::MAX.into()))
    }

    /// A pattern for a number of 64 bits.
    pub(super) fn of_int64(&self) -> Option<String> {
        self.int64.filter(|range| *range != Range::default()).map(|Range { gte, lte }| decimals(gte, lte))
    }

    /// Whether a value of an enum is within the bounds.
    pub(super) fn allow_enum(&self, number: i32) -> bool {
        self.values.as_ref().is_none_or(|values| !values.not_in.contains(&number))
    }

    /// Whether a duration below zero is out of bounds.
    pub(super) fn no_negative_duration(&self) -> bool {
        let least = self.duration.as_ref().and_then(|durations| durations.gte);
        least.is_some_and(|least| least.seconds >= 0 && least.nanos >= 0)
    }
}

/// `minLength` and `maxLength`, or `minItems` and `maxItems`.
fn between(what: &str, least: Option<u64>, most: Option<u64>) -> Object {
    // Nothing in JSON is longer than an i64 can count.
    let bounds = [("min", least), ("max", most)].into_iter();
    let bounds = bounds.filter_map(|(name, bound)| Some((name, i64::try_from(bound?).ok()?)));
    bounds.map(|(name, bound)| (format!("{name}{what}"), bound.into())).collect()
}

/// The parts of a pattern between slashes, but for slashes within groups and classes. None if it is a choice of
/// patterns.
fn segments(pattern: &str) -> Vec<&str> {
    let (mut depth, mut escaped, mut choice) = (0, false, false);
    let is_end = |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '|' => choice |= depth == 0,
            _ => return character == '/' && depth == 0,
        }
        false
    };
    let segments = pattern.split(is_end).collect();
    if choice { Vec::new() } else { segments }
}

#[cfg(test)]
mod tests {
    use super::segments;

    #[test]
    fn segments_end_with_slashes_of_the_path_only() {
        assert_eq!(segments("services/[^/]+/(a/b|c)"), ["services", "[^/]+", "(a/b|c)"]);
        assert_eq!(segments(r"a\(/\[/b"), [r"a\(", r"\[", "b"]);
        assert!(segments("a/b|c/d").is_empty());
    }
}
