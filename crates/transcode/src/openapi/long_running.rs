//! Methods that start long-running operations: `google.longrunning.operation_info` (AIP-151).

use prost_reflect::{MessageDescriptor, MethodDescriptor};

use crate::binding::{Binding, WEBSOCKET};
use crate::json::Object;
use crate::template::Segment;

/// The messages in the operation that a method starts.
pub(super) struct OperationInfo {
    pub(super) response: MessageDescriptor,
    pub(super) metadata: MessageDescriptor,
}

/// `google.longrunning.OperationInfo`.
#[derive(Clone, PartialEq, prost::Message)]
struct Types {
    #[prost(string, tag = "1")]
    response: String,
    #[prost(string, tag = "2")]
    metadata: String,
}

/// `google.protobuf.MethodOptions`.
#[derive(Clone, PartialEq, prost::Message)]
struct Options {
    #[prost(message, optional, tag = "1049")]
    operation_info: Option<Types>,
}

impl OperationInfo {
    /// What the contract says of a method. None if it says nothing, or names a message that the contracts do not have.
    pub(super) fn of(method: &MethodDescriptor) -> Option<Self> {
        let options: Options = method.options().transcode_to().ok()?;
        let Types { response, metadata } = options.operation_info?;
        let package = method.parent_service().package_name().to_owned();
        let pool = method.parent_pool();
        let message = |name: &str| {
            let local = pool.get_message_by_name(&format!("{package}.{name}"));
            local.or_else(|| pool.get_message_by_name(name))
        };
        Some(Self { response: message(&response)?, metadata: message(&metadata)? })
    }

    /// The names of the messages, for people.
    pub(super) fn described(&self) -> String {
        let [response, metadata] = [&self.response, &self.metadata].map(|message| message.full_name());
        format!("Starts an operation, whose `response` is a `{response}`, and whose `metadata` is a `{metadata}`.")
    }
}

/// Links from an operation to the methods that read or change it: those with its `name` in their path. A link has no
/// parameters, because OpenAPI has no expression for a segment of the name.
pub(super) fn links(bindings: &[Binding], ids: &[String]) -> Object {
    let found = bindings.iter().zip(ids).filter(|(binding, _)| takes_operation(binding));
    let link = |(binding, id): (&Binding, &String)| {
        let description = format!("`{}`, with `name` of the answer.", binding.path);
        let link = Object::new().with("operationId", id.as_str()).with("description", description);
        (id.clone(), link.into())
    };
    found.map(link).collect()
}

fn takes_operation(binding: &Binding) -> bool {
    let template = &binding.template;
    let [variable] = template.variables.as_slice() else { return false };
    let name = &template.segments[variable.start..variable.end];
    let ends = matches!(name, [.., Segment::Literal(collection), Segment::One] if collection == "operations");
    ends && binding.http_method != WEBSOCKET
}
