//! The options of methods and fields that are compared: the part of `google.api`, `buf.validate` and `mesh.options.v1`
//! that says what a caller may rely on.

use std::iter;

use mesh_proto::buf::validate::{FieldRules, Ignore};
use mesh_proto::mesh::options::v1::{Access, Authorization};
use prost::Message as _;

/// How safely a call may be repeated, as a contract says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Repeats {
    #[default]
    Never,
    Idempotent,
    NoSideEffects,
}

/// What a contract says of a method.
#[derive(Clone, Debug, Default)]
pub(crate) struct MethodOptions {
    pub(crate) repeats: Repeats,
    pub(crate) access: Audience,
    pub(crate) scopes: Vec<String>,
    /// In nanoseconds.
    pub(crate) deadline: Option<i128>,
    /// What is served by HTTP, as text: `GET /v1/titles/{title_id}`.
    pub(crate) http: Vec<String>,
}

/// The callers that a method is for, the fewest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Audience {
    #[default]
    Internal,
    Authenticated,
    Public,
}

/// What a contract says of a field.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldOptions {
    pub(crate) required: bool,
    /// The service sets it, and ignores it in requests.
    pub(crate) output_only: bool,
    /// Responses do not have it.
    pub(crate) input_only: bool,
    pub(crate) rules: Option<FieldRules>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawMethod {
    #[prost(int32, tag = "34")]
    idempotency: i32,
    #[prost(message, optional, tag = "50001")]
    deadline: Option<Span>,
    #[prost(message, optional, tag = "50002")]
    authorization: Option<Authorization>,
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

/// A `google.api.HttpRule`.
#[derive(Clone, PartialEq, prost::Message)]
struct HttpRule {
    #[prost(string, tag = "2")]
    get: String,
    #[prost(string, tag = "3")]
    put: String,
    #[prost(string, tag = "4")]
    post: String,
    #[prost(string, tag = "5")]
    delete: String,
    #[prost(string, tag = "6")]
    patch: String,
    #[prost(string, tag = "7")]
    body: String,
    #[prost(message, optional, tag = "8")]
    custom: Option<CustomPattern>,
    #[prost(message, repeated, tag = "11")]
    more: Vec<HttpRule>,
    #[prost(string, tag = "12")]
    response_body: String,
}

/// A `google.api.CustomHttpPattern`.
#[derive(Clone, PartialEq, prost::Message)]
struct CustomPattern {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    path: String,
}

impl HttpRule {
    /// Itself as text.
    fn text(&self) -> String {
        let Self { get, put, post, delete, patch, body, custom, response_body, .. } = self;
        let plain = [("GET", get), ("PUT", put), ("POST", post), ("DELETE", delete), ("PATCH", patch)];
        let custom = custom.iter().map(|custom| (&*custom.kind, &custom.path));
        let mut patterns = plain.into_iter().chain(custom).filter(|(_, path)| !path.is_empty());
        let (method, path) = patterns.next().map(|(method, path)| (method, &**path)).unwrap_or_default();
        let mut text = format!("{method} {path}");
        for (name, field) in [("body", body), ("response body", response_body)] {
            if !field.is_empty() {
                text += &format!(" with {name} `{field}`");
            }
        }
        text
    }
}

/// A `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// `google.api.field_behavior` is declared `[packed = false]`. Decoders take both forms, so prost reads either.
#[derive(Clone, PartialEq, prost::Message)]
struct RawField {
    #[prost(int32, repeated, packed = "false", tag = "1052")]
    behavior: Vec<i32>,
    #[prost(message, optional, tag = "1159")]
    rules: Option<FieldRules>,
}

/// Of `google.api.FieldBehavior`.
const REQUIRED: i32 = 2;
const OUTPUT_ONLY: i32 = 3;
const INPUT_ONLY: i32 = 4;

impl MethodOptions {
    pub(crate) fn read(options: &[u8]) -> Result<Self, prost::DecodeError> {
        let raw = RawMethod::decode(options)?;
        let authorization = raw.authorization.unwrap_or_default();
        let access = match authorization.access() {
            Access::Public => Audience::Public,
            Access::Authenticated => Audience::Authenticated,
            Access::Unspecified | Access::Internal => Audience::Internal,
        };
        let repeats = match raw.idempotency {
            1 => Repeats::NoSideEffects,
            2 => Repeats::Idempotent,
            _ => Repeats::Never,
        };
        let nanos = |span: Span| i128::from(span.seconds) * 1_000_000_000 + i128::from(span.nanos);
        let rules = raw.http.iter().flat_map(|rule| iter::once(rule).chain(&rule.more));
        let http = rules.map(HttpRule::text).collect();
        Ok(Self { repeats, access, scopes: authorization.scopes, deadline: raw.deadline.map(nanos), http })
    }
}

impl FieldOptions {
    pub(crate) fn read(options: &[u8]) -> Result<Self, prost::DecodeError> {
        let raw = RawField::decode(options)?;
        let has = |behavior| raw.behavior.contains(&behavior);
        let zero_is_allowed = |rules: &FieldRules| rules.ignore() == Ignore::IfZeroValue;
        let demanded = raw.rules.as_ref().is_some_and(|rules| rules.required() && !zero_is_allowed(rules));
        let required = has(REQUIRED) || demanded;
        Ok(Self { required, output_only: has(OUTPUT_ONLY), input_only: has(INPUT_ONLY), rules: raw.rules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_is_read_in_both_forms() {
        // Field 1052 as a varint, E0 41, and packed, E2 41.
        assert!(FieldOptions::read(&[0xe0, 0x41, 2]).unwrap().required, "not packed, as compilers write it");
        assert!(FieldOptions::read(&[0xe2, 0x41, 1, 2]).unwrap().required, "packed");
        let both = FieldOptions::read(&[0xe0, 0x41, 3, 0xe0, 0x41, 2]).unwrap();
        assert!(both.required && both.output_only);
        assert!(!FieldOptions::read(&[]).unwrap().required);
        assert!(FieldOptions::read(&[0xe2, 0x41, 9]).is_err(), "cut");
    }
}
