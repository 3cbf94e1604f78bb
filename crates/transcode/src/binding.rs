//! A rule of a method, checked against the messages of its contract.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use crate::annotations::Revision;
use crate::field_path::FieldPath;
use crate::rule::Rule;
use crate::template::Template;

/// `google.api.HttpBody`: bytes with a content type of their own.
const HTTP_BODY: &str = "google.api.HttpBody";

/// A way to call a method by HTTP.
#[derive(Clone, Debug)]
pub struct Binding {
    /// The method.
    pub method: MethodDescriptor,
    /// The path by which gRPC calls the method: `/package.Service/Method`.
    pub grpc_path: String,
    /// `GET`, or the kind of a custom pattern, such as `WEBSOCKET`.
    pub http_method: String,
    /// The path's template, as the contract has it.
    pub path: String,
    /// What the body of a request fills.
    pub body: Body,
    /// The field of the response that the body of the answer has alone.
    pub response_body: Option<FieldDescriptor>,
    /// Whether the request has a field `request_id`, which makes a repeated call safe (AIP-155).
    pub has_request_id: bool,
    /// The path of the request's field that has the revision option, such as `title.revision`.
    pub revision: Option<String>,
    pub(crate) template: Template,
    /// The fields of the template's variables, in their order.
    pub(crate) variables: Vec<FieldPath>,
    /// The field that takes the paths which the keys of the body name: PATCH's `update_mask`.
    pub(crate) update_mask: Option<FieldPath>,
    pub(crate) response_revision: Option<FieldPath>,
}

/// What the body of a request fills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Nothing: a body is refused.
    None,
    /// The request, with JSON.
    Whole,
    /// The request, which is a `google.api.HttpBody`, with the body as it is.
    WholeRaw,
    /// This message of the request, with JSON.
    Field(FieldDescriptor),
    /// This field of the request, which is bytes or a `google.api.HttpBody`, with the body as it is.
    FieldRaw(FieldDescriptor),
}

impl Body {
    /// Whether the body is taken as it is, with any content type.
    pub fn is_raw(&self) -> bool {
        matches!(self, Self::WholeRaw | Self::FieldRaw(_))
    }
}

impl Binding {
    /// Checks a rule.
    ///
    /// # Errors
    ///
    /// All mistakes of the rule.
    pub(crate) fn new(method: &MethodDescriptor, rule: &Rule, revision: &Revision) -> Result<Self, Vec<String>> {
        let (input, output) = (method.input(), method.output());
        let mut mistakes = Vec::new();
        let template = keep(Template::parse(&rule.template).map_err(|error| error.to_string()), &mut mistakes);
        let named = template.iter().flat_map(|template| &template.variables);
        let variables: Vec<_> = named.filter_map(|v| keep(variable(&input, &v.field), &mut mistakes)).collect();
        let body = keep(body(&input, rule), &mut mistakes);
        let response_body = keep(response_body(&output, &rule.response_body), &mut mistakes);
        let (Some(template), Some(body), Some(response_body), true) =
            (template, body, response_body, mistakes.is_empty())
        else {
            return Err(mistakes);
        };
        let masked = if rule.http_method == "PATCH" { update_mask(&input, &body) } else { None };
        Ok(Self {
            grpc_path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            http_method: rule.http_method.clone(),
            path: rule.template.clone(),
            has_request_id: has_request_id(&input),
            revision: find_revision(&input, revision).map(|path| path.name()),
            response_revision: find_revision(&output, revision),
            method: method.clone(),
            update_mask: masked,
            body,
            response_body,
            template,
            variables,
        })
    }

    /// Whether the answer is a `google.api.HttpBody`: bytes with a content type of their own.
    pub fn is_raw_response(&self) -> bool {
        self.response_message().full_name() == HTTP_BODY
    }

    /// The message of an answer's body: the response, or its field `response_body`.
    pub fn response_message(&self) -> MessageDescriptor {
        match self.response_body.as_ref().map(FieldDescriptor::kind) {
            Some(Kind::Message(message)) => message,
            _ => self.method.output(),
        }
    }
}

fn keep<T>(result: Result<T, String>, mistakes: &mut Vec<String>) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// The field of a variable.
fn variable(input: &MessageDescriptor, path: &str) -> Result<FieldPath, String> {
    let found = FieldPath::find(input, path, false).map_err(|what| format!("variable `{path}`: {what}"))?;
    if found.leaf().is_list() || found.leaf().is_map() || matches!(found.leaf().kind(), Kind::Message(_)) {
        return Err(format!(
            "variable `{path}`: a path has values of numbers, strings, bytes, booleans and enums only"
        ));
    }
    Ok(found)
}

fn body(input: &MessageDescriptor, rule: &Rule) -> Result<Body, String> {
    if !rule.body.is_empty() && matches!(rule.http_method.as_str(), "GET" | "HEAD") {
        return Err(format!("{} has no body", rule.http_method));
    }
    match rule.body.as_str() {
        "" => Ok(Body::None),
        "*" if input.full_name() == HTTP_BODY => Ok(Body::WholeRaw),
        "*" => Ok(Body::Whole),
        name => {
            let field = input.get_field_by_name(name);
            let field = field.ok_or_else(|| format!("body `{name}`: {} has no such field", input.full_name()))?;
            match field.kind() {
                _ if field.is_list() || field.is_map() => {}
                Kind::Bytes => return Ok(Body::FieldRaw(field)),
                Kind::Message(message) if message.full_name() == HTTP_BODY => return Ok(Body::FieldRaw(field)),
                Kind::Message(_) => return Ok(Body::Field(field)),
                _ => {}
            }
            Err(format!("body `{name}`: a body is one message, or bytes"))
        }
    }
}

fn response_body(output: &MessageDescriptor, name: &str) -> Result<Option<FieldDescriptor>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    let field = output.get_field_by_name(name);
    let field = field.ok_or_else(|| format!("response_body `{name}`: {} has no such field", output.full_name()))?;
    if field.is_list() || field.is_map() || !matches!(field.kind(), Kind::Message(_)) {
        return Err(format!("response_body `{name}`: the body of an answer is one message"));
    }
    Ok(Some(field))
}

/// The field `update_mask` of a request whose body is one of its fields.
fn update_mask(input: &MessageDescriptor, body: &Body) -> Option<FieldPath> {
    let Body::Field(_) = body else { return None };
    let field = input.get_field_by_name("update_mask").filter(|field| !field.is_list())?;
    let is_mask = matches!(field.kind(), Kind::Message(message) if message.full_name() == "google.protobuf.FieldMask");
    is_mask.then(|| FieldPath::of(field))
}

fn has_request_id(input: &MessageDescriptor) -> bool {
    input.get_field_by_name("request_id").is_some_and(|field| field.kind() == Kind::String && !field.is_list())
}

/// The field with the revision option, of a message or of the messages in it.
fn find_revision(message: &MessageDescriptor, revision: &Revision) -> Option<FieldPath> {
    let inner = |field: FieldDescriptor| match field.kind() {
        Kind::Message(message) if !field.is_list() && !field.is_map() => {
            let found = message.fields().find(|field| revision.marks(field))?;
            Some(FieldPath::of(field).join(found))
        }
        _ => None,
    };
    let direct = message.fields().find(|field| revision.marks(field)).map(FieldPath::of);
    direct.or_else(|| message.fields().find_map(inner))
}
