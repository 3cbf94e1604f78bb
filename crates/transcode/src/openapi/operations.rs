//! The operations of a document: a binding each.

use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};

use super::answers;
use super::comments::Parts;
use super::info::{Info, SCHEME};
use super::long_running::OperationInfo;
use super::paths::{self, Shape};
use super::schemas::Schemas;
use crate::annotations::Behavior;
use crate::binding::{Binding, Body};
use crate::field_path::FieldPath;
use crate::json::{Json, Object};

/// Parameters of a query lie at most so deep in a request. A message may contain itself.
const DEPTH: usize = 3;
/// The field that makes a repeated call safe (AIP-155).
const REQUEST_ID: &str = "request_id";

/// Makes operations, and collects the schemas that they refer to.
pub(super) struct Operations<'i> {
    info: Info<'i>,
    schemas: Schemas,
    /// Those of an answer that is a long-running operation.
    links: Object,
}

impl<'i> Operations<'i> {
    pub(super) fn new(info: Info<'i>, links: Object) -> Self {
        Self { info, schemas: Schemas::default(), links }
    }

    pub(super) fn comment(&mut self, file: &FileDescriptor, path: &[i32]) -> String {
        self.schemas.comments.of(file, path)
    }

    pub(super) fn finish(self) -> Object {
        let mut schemas = self.schemas;
        answers::problem(&mut schemas);
        schemas.finish()
    }

    pub(super) fn operation(&mut self, binding: &Binding, id: &str, shape: &Shape) -> Json {
        let method = &binding.method;
        let parts = Parts::of(&self.comment(&method.parent_file(), method.path()));
        let mut described: Vec<String> = vec![parts.description.clone()];
        let started = OperationInfo::of(method);
        described.extend(started.iter().map(OperationInfo::described));
        let scopes = self.info.bearer.scopes(binding);
        described.extend(scopes.map(needed));
        described.retain(|text| !text.is_empty());
        let mut parameters = self.path_parameters(binding, shape);
        parameters.extend(self.query_parameters(binding));
        parameters.extend(header_parameters(binding));
        let operation = Object::new()
            .with("operationId", id)
            .with("tags", vec![method.parent_service().full_name()])
            .with_some("summary", parts.summary.as_str())
            .with_some("description", described.join("\n\n"))
            .with_some("parameters", parameters)
            .with_some("security", scopes.map(security).into_iter().collect::<Vec<_>>());
        if binding.http_method == "WEBSOCKET" {
            let messages = Object::new()
                .with("send", self.schemas.message(&method.input()))
                .with("receive", self.schemas.message(&binding.response_message()));
            return operation.and(messages).into();
        }
        let links = if started.is_some() { self.links.clone() } else { Object::new() };
        operation
            .with_some("requestBody", self.body(binding))
            .with("responses", answers::of(binding, &parts.failures, links, (self.info, &mut self.schemas)))
            .with_some("x-operation-info", self.messages(started))
            .into()
    }

    /// The messages in the operation that a method starts.
    fn messages(&mut self, started: Option<OperationInfo>) -> Object {
        let Some(OperationInfo { response, metadata }) = started else { return Object::new() };
        let [response, metadata] = [response, metadata].map(|message| self.schemas.message(&message));
        Object::new().with("response", response).with("metadata", metadata)
    }

    fn path_parameters(&mut self, binding: &Binding, shape: &Shape) -> Vec<Object> {
        let mut parameters = Vec::new();
        for (parameter, name) in paths::parameters(binding).iter().zip(&shape.names) {
            let schema = match parameter.field {
                Some(field) => self.schemas.value(field),
                None => Object::new().with("type", "string").with_some("pattern", parameter.pattern.as_str()),
            };
            let description = parameter.field.map(|field| self.field_comment(field)).unwrap_or_default();
            let parameter = Object::new()
                .with("name", name.as_str())
                .with("in", "path")
                .with("required", true)
                .with_some("description", description)
                .with("schema", schema);
            parameters.push(parameter);
        }
        parameters
    }

    fn query_parameters(&mut self, binding: &Binding) -> Vec<Object> {
        let in_body = match &binding.body {
            Body::Whole | Body::WholeRaw => return Vec::new(),
            Body::None => None,
            Body::Field(field) | Body::FieldRaw(field) => Some(field.name()),
        };
        let bound: Vec<_> = binding.variables.iter().map(|variable| variable.json_name()).collect();
        let mut parameters = Vec::new();
        let fields = binding.method.input().fields().filter(|field| Some(field.name()) != in_body).collect::<Vec<_>>();
        let hidden = |field: &FieldDescriptor| binding.body.is_raw() && field.name() == REQUEST_ID;
        // The messages that lead to a field are of different types, so that the parameters are finite and few.
        let mut open: Vec<_> =
            fields.into_iter().rev().filter(|field| !hidden(field)).map(|field| (String::new(), 1, field)).collect();
        while let Some((prefix, depth, field)) = open.pop() {
            let name = format!("{prefix}{}", field.json_name());
            match inner(&field) {
                _ if bound.contains(&name) => {}
                Inner::Value => parameters.push(self.query_parameter(&name, &field, depth == 1)),
                Inner::Message(message) if depth < DEPTH => {
                    let fields: Vec<_> = message.fields().collect();
                    open.extend(fields.into_iter().rev().map(|field| (format!("{name}."), depth + 1, field)));
                }
                Inner::Message(_) | Inner::None => {}
            }
        }
        parameters
    }

    fn query_parameter(&mut self, name: &str, field: &FieldDescriptor, outer: bool) -> Object {
        let parameter = Object::new().with("name", name).with("in", "query");
        let required = outer && Behavior::of(field).required;
        let parameter = if required { parameter.with("required", true) } else { parameter };
        parameter.with_some("description", self.field_comment(field)).with("schema", self.schemas.value(field))
    }

    fn field_comment(&mut self, field: &FieldDescriptor) -> String {
        self.comment(&field.parent_message().parent_file(), field.path())
    }

    fn body(&mut self, binding: &Binding) -> Object {
        let json = |schema: Object| Object::new().with("application/json", Object::new().with("schema", schema));
        let content = match &binding.body {
            Body::None => return Object::new(),
            Body::WholeRaw | Body::FieldRaw(_) => Object::new().with("*/*", Object::new()),
            Body::Whole => {
                // A variable within a message of the body leaves the message in the body.
                let bound: Vec<_> = binding.variables.iter().map(|variable| variable.name()).collect();
                if binding.has_request_id {
                    self.schemas.given_by_header(&binding.method.input());
                }
                json(self.schemas.body(&binding.method.input(), &bound, false))
            }
            Body::Field(field) => {
                let Some(message) = field.message() else { return Object::new() };
                let within = |name: String| name.strip_prefix(&format!("{}.", field.name())).map(str::to_owned);
                let bound: Vec<_> = binding.variables.iter().filter_map(|variable| within(variable.name())).collect();
                json(self.schemas.body(message.descriptor(), &bound, binding.update_mask.is_some()))
            }
        };
        let body = Object::new().with("content", content);
        if needs_body(binding) { body.with("required", true) } else { body }
    }
}

/// What the callers of a method with a token need, in words: OpenAPI has scopes for OAuth 2 alone.
fn needed(scopes: &[&str]) -> String {
    let scopes: Vec<_> = scopes.iter().map(|scope| format!("`{scope}`")).collect();
    match scopes.as_slice() {
        [] => "Needs a bearer token.".to_owned(),
        [scope] => format!("Needs a bearer token with the scope {scope}."),
        [others @ .., last] => format!("Needs a bearer token with the scopes {} and {last}.", others.join(", ")),
    }
}

fn security(scopes: &[&str]) -> Object {
    Object::new().with(SCHEME, scopes.to_vec())
}

/// Whether a request without a body lacks a field. Another one is that of an empty message.
fn needs_body(binding: &Binding) -> bool {
    match &binding.body {
        Body::None => false,
        Body::Field(field) | Body::FieldRaw(field) => Behavior::of(field.descriptor()).required,
        Body::WholeRaw => true,
        Body::Whole => {
            let bound = |field: &FieldDescriptor| {
                let is_field = |variable: &FieldPath| variable.numbers() == [field.number()];
                binding.variables.iter().any(is_field)
            };
            let needed = |field: &FieldDescriptor| Behavior::of(field).required && field.name() != REQUEST_ID;
            binding.method.input().fields().any(|field| needed(&field) && !bound(&field))
        }
    }
}

/// The headers that give a field. Nothing else can give the `request_id` of a body that is taken as it is.
fn header_parameters(binding: &Binding) -> Vec<Object> {
    let text = |name: &str| Object::new().with("name", name).with("in", "header");
    let typed = || Object::new().with("type", "string");
    let mut parameters = Vec::new();
    let request_id = binding.method.input().get_field_by_name(REQUEST_ID).filter(|_| binding.has_request_id);
    if let Some(field) = request_id {
        let parameter = text("Idempotency-Key");
        let alone = binding.body.is_raw();
        let parameter =
            if alone && Behavior::of(&field).required { parameter.with("required", true) } else { parameter };
        let description = "A UUID that the caller generates. A repeated call with the same UUID has no further effect.";
        let instead = if alone { "" } else { " `requestId` gives it as well: one of both is enough." };
        let parameter = parameter.with("description", format!("{description}{instead}"));
        parameters.push(parameter.with("schema", typed().with("format", "uuid")));
    }
    if let Some(revision) = binding.revision.as_ref().filter(|_| binding.http_method != "GET") {
        let of_body = match &binding.body {
            Body::Field(field) => revision.strip_prefix(&format!("{}.", field.name())),
            _ => None,
        };
        let name = of_body.unwrap_or(revision);
        let description = format!("The `ETag` of an earlier answer. `{name}` gives it as well: one of both is enough.");
        let parameter = text("If-Match").with("description", description);
        parameters.push(parameter.with("schema", typed().with("pattern", "^(W/)?\"[0-9]+\"$")));
    }
    parameters
}

/// What a query can say about a field.
enum Inner {
    /// Its value.
    Value,
    /// The values of its fields.
    Message(MessageDescriptor),
    None,
}

fn inner(field: &FieldDescriptor) -> Inner {
    let Kind::Message(message) = field.kind() else { return Inner::Value };
    if field.is_list() || field.is_map() {
        return Inner::None;
    }
    match message.full_name().strip_prefix("google.protobuf.") {
        Some("Any" | "Empty" | "ListValue" | "Struct" | "Value") => Inner::None,
        Some(_) => Inner::Value,
        None => Inner::Message(message),
    }
}
