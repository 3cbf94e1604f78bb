//! The option `google.api.http` of a method.

use std::fmt;

use prost_reflect::MethodDescriptor;

/// A rule that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The full name of the method.
    pub method: String,
    /// The method and the template of the rule, such as `GET /v1/titles`.
    pub rule: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.method, self.rule, self.what)
    }
}

impl std::error::Error for RuleError {}

/// A rule of a method, or one of its additional bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// `GET`, or the kind of a custom pattern.
    pub(crate) http_method: String,
    pub(crate) template: String,
    /// The body's field, `*`, or empty.
    pub(crate) body: String,
    /// The response's field, or empty.
    pub(crate) response_body: String,
}

/// The rules of a method, the main one first. Empty if the method has none.
///
/// # Errors
///
/// What is wrong with the option.
pub(crate) fn of(method: &MethodDescriptor) -> Result<Vec<Rule>, String> {
    let options: Options = method.options().transcode_to().map_err(|error| error.to_string())?;
    let Some(mut rule) = options.http else { return Ok(Vec::new()) };
    let additional = std::mem::take(&mut rule.additional_bindings);
    if additional.iter().any(|rule| !rule.additional_bindings.is_empty()) {
        return Err("additional_bindings contain no additional_bindings".to_owned());
    }
    std::iter::once(rule).chain(additional).map(HttpRule::read).collect()
}

impl HttpRule {
    fn read(self) -> Result<Rule, String> {
        let (http_method, template) = match self.pattern {
            Some(Pattern::Get(template)) => ("GET".to_owned(), template),
            Some(Pattern::Put(template)) => ("PUT".to_owned(), template),
            Some(Pattern::Post(template)) => ("POST".to_owned(), template),
            Some(Pattern::Delete(template)) => ("DELETE".to_owned(), template),
            Some(Pattern::Patch(template)) => ("PATCH".to_owned(), template),
            Some(Pattern::Custom(Custom { kind, .. })) if kind.is_empty() => {
                return Err("a custom pattern needs a kind".to_owned());
            }
            Some(Pattern::Custom(custom)) => (custom.kind, custom.path),
            None => return Err("the rule has no pattern: get, put, post, delete, patch or custom".to_owned()),
        };
        Ok(Rule { http_method, template, body: self.body, response_body: self.response_body })
    }
}

/// `google.protobuf.MethodOptions`.
#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(message, optional, tag = "72295728")]
    http: Option<HttpRule>,
}

/// `google.api.HttpRule`. Its `selector` is for rules outside contracts.
#[derive(Clone, PartialEq, prost::Message)]
struct HttpRule {
    #[prost(oneof = "Pattern", tags = "2, 3, 4, 5, 6, 8")]
    pattern: Option<Pattern>,
    #[prost(string, tag = "7")]
    body: String,
    #[prost(message, repeated, tag = "11")]
    additional_bindings: Vec<HttpRule>,
    #[prost(string, tag = "12")]
    response_body: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Pattern {
    #[prost(string, tag = "2")]
    Get(String),
    #[prost(string, tag = "3")]
    Put(String),
    #[prost(string, tag = "4")]
    Post(String),
    #[prost(string, tag = "5")]
    Delete(String),
    #[prost(string, tag = "6")]
    Patch(String),
    #[prost(message, tag = "8")]
    Custom(Custom),
}

/// `google.api.CustomHttpPattern`.
#[derive(Clone, PartialEq, prost::Message)]
struct Custom {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    path: String,
}
