//! A rule of a method, checked against the messages of its contract.

use prost_reflect::{MessageDescriptor, MethodDescriptor};

use crate::annotations::{Behavior, Revision};
use crate::error::WireError;
use crate::field_path::{self, FieldPath};
use crate::rule::Rule;
use crate::table::{Cardinality, Field, Kind, Message, Schema};
use crate::template::Template;

/// `google.api.HttpBody`: bytes with a content type of their own.
const HTTP_BODY: &str = "google.api.HttpBody";

/// The kind of a custom pattern for a WebSocket. A client cannot send it as a method.
pub(crate) const WEBSOCKET: &str = "WEBSOCKET";

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
    pub response_body: Option<Field>,
    /// Whether the request has a field `request_id`, which makes a repeated call safe (AIP-155).
    pub has_request_id: bool,
    /// The path of the request's field that has the revision option, such as `title.revision`.
    pub revision: Option<String>,
    pub(crate) template: Template,
    /// The fields of the template's variables, in their order.
    pub(crate) variables: Vec<FieldPath>,
    /// The field that takes the paths which the keys of the body name: PATCH's `update_mask`.
    pub(crate) update_mask: Option<Field>,
    /// Whether a response has a field with the revision option.
    pub(crate) answers_revision: bool,
    pub(crate) input: Message,
    pub(crate) answer: Message,
}

/// What the body of a request fills.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing: a body is refused.
    None,
    /// The request, with JSON.
    Whole,
    /// The request, which is a `google.api.HttpBody`, with the body as it is.
    WholeRaw,
    /// This message of the request, with JSON.
    Field(Field),
    /// This field of the request, which is bytes or a `google.api.HttpBody`, with the body as it is.
    FieldRaw(Field),
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
    pub(crate) fn new(
        schema: &Schema,
        method: &MethodDescriptor,
        rule: &Rule,
        revision: &Revision,
    ) -> Result<Self, Vec<String>> {
        let find = |message: MessageDescriptor| {
            let name = message.full_name();
            schema.message(name).ok_or_else(|| vec![format!("the schema lacks {name}")])
        };
        let (input, output) = (find(method.input())?, find(method.output())?);
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
            answers_revision: find_revision(&output, revision).is_some(),
            method: method.clone(),
            update_mask: masked,
            answer: response_body.as_ref().and_then(Field::message).unwrap_or(output),
            input,
            body,
            response_body,
            template,
            variables,
        })
    }

    /// Whether a field of the request is required that only the query can give.
    pub fn needs_parameter(&self) -> bool {
        let fields = self.input.fields().filter(|field| Behavior::of(field.descriptor()).required);
        let bound = |field: &Field| self.variables.iter().any(|variable| variable.numbers() == [field.number()]);
        self.body == Body::None && fields.into_iter().any(|field| !bound(&field))
    }

    /// Whether the answer is a `google.api.HttpBody`: bytes with a content type of their own.
    pub fn is_raw_response(&self) -> bool {
        self.response_message().full_name() == HTTP_BODY
    }

    /// The message of an answer's body: the response, or its field `response_body`.
    pub fn response_message(&self) -> MessageDescriptor {
        self.answer.descriptor().clone()
    }

    /// Appends the JSON of an answer's body: of a response, or of its field `response_body`.
    ///
    /// # Errors
    ///
    /// The wire is not such a response, or JSON cannot express it. `out` is as it was.
    pub fn response(&self, wire: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
        match &self.response_body {
            None => self.answer.to_json(wire, out),
            // One occurrence is a slice of the wire. Several merge, as protobuf wants.
            Some(field) => match field_path::contents(wire, field.number())?.as_slice() {
                [one] => self.answer.to_json(one, out),
                several => self.answer.to_json(&several.concat(), out),
            },
        }
    }
}

fn keep<T>(result: Result<T, String>, mistakes: &mut Vec<String>) -> Option<T> {
    result.map_err(|mistake| mistakes.push(mistake)).ok()
}

/// The field of a variable.
fn variable(input: &Message, path: &str) -> Result<FieldPath, String> {
    let found = FieldPath::find(input, path, false).map_err(|what| format!("variable `{path}` {what}"))?;
    if found.leaf().cardinality() != Cardinality::Single || found.leaf().kind() == Kind::Message {
        return Err(format!(
            "variable `{path}`: a path has values of numbers, strings, bytes, booleans and enums only"
        ));
    }
    Ok(found)
}

fn body(input: &Message, rule: &Rule) -> Result<Body, String> {
    if !rule.body.is_empty() && matches!(rule.http_method.as_str(), "GET" | "HEAD") {
        return Err(format!("{} has no body", rule.http_method));
    }
    match rule.body.as_str() {
        // Each message of a WebSocket is a request.
        "" if rule.http_method == WEBSOCKET => Ok(Body::Whole),
        "" => Ok(Body::None),
        "*" if input.full_name() == HTTP_BODY => Ok(Body::WholeRaw),
        "*" => Ok(Body::Whole),
        name => {
            let field = named(input, name).map_err(|what| format!("body `{name}` {what}"))?;
            match field_path::inner(&field) {
                Some(message) if message.full_name() == HTTP_BODY => Ok(Body::FieldRaw(field)),
                Some(_) => Ok(Body::Field(field)),
                None if is(&field, Kind::Bytes) => Ok(Body::FieldRaw(field)),
                None => Err(format!("body `{name}`: a body is one message, or bytes")),
            }
        }
    }
}

fn response_body(output: &Message, name: &str) -> Result<Option<Field>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    let field = named(output, name).map_err(|what| format!("response_body `{name}` {what}"))?;
    match field_path::inner(&field) {
        Some(_) => Ok(Some(field)),
        None => Err(format!("response_body `{name}`: the body of an answer is one message")),
    }
}

fn named(message: &Message, name: &str) -> Result<Field, String> {
    FieldPath::find(message, name, false).map(|path| path.leaf().clone())
}

/// Whether a field is one value of a kind.
fn is(field: &Field, kind: Kind) -> bool {
    field.cardinality() == Cardinality::Single && field.kind() == kind
}

/// The field `update_mask` of a request whose body is one of its fields.
fn update_mask(input: &Message, body: &Body) -> Option<Field> {
    let field = input.field("update_mask").filter(|_| matches!(body, Body::Field(_)))?;
    let message = field_path::inner(&field)?;
    (message.full_name() == "google.protobuf.FieldMask").then_some(field)
}

fn has_request_id(input: &Message) -> bool {
    input.field("request_id").is_some_and(|field| is(&field, Kind::String))
}

/// The field with the revision option, of a message or of the messages in it.
fn find_revision(message: &Message, revision: &Revision) -> Option<FieldPath> {
    let marked = |message: &Message| message.fields().find(|field| revision.marks(field.descriptor()));
    let nested = |field: Field| {
        let found = marked(&field_path::inner(&field)?)?;
        Some(FieldPath::of(field).join(found))
    };
    marked(message).map(FieldPath::of).or_else(|| message.fields().find_map(nested))
}
