//! What the edge reads in the messages of a method: revision, cursor, heartbeat and what is missing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use mesh_rpc::call::{Access, Method, Methods};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, Value};
use transcode::{Binding, Field, scan};

/// The field option that marks the revision of a resource.
pub(crate) const REVISION: &str = "mesh.options.v1.revision";
/// The method option that says how long an answer is fresh.
const CACHE: &str = "mesh.options.v1.cache";

/// The fields that the edge reads of a method's messages.
pub(crate) struct Shape {
    /// The method.
    pub(crate) method: &'static Method,
    /// The `Cache-Control` of an answer to GET.
    pub(crate) cache_control: HeaderValue,
    /// The numbers that lead to the revision in the response.
    revision: Option<Vec<u32>>,
    /// The field `unreachable` of the response (AIP-217).
    unreachable: Option<u32>,
    /// The field `cursor` of the response, if the request has one, too.
    cursor: Option<u32>,
    /// The field `heartbeat` of the response.
    heartbeat: Option<u32>,
}

impl Shape {
    pub(crate) fn of(binding: &Binding, methods: &Methods) -> Self {
        let (request, response) = (binding.method.input(), binding.method.output());
        let number = |name: &str| response.get_field_by_name(name).map(|field| field.number());
        let resumes = request.get_field_by_name("cursor").is_some_and(|field| matches!(field.kind(), Kind::Bytes));
        let method = methods.find(&binding.grpc_path);
        Self {
            method,
            cache_control: cache_control(binding, method.access),
            revision: revision_path(&response, binding.response_body.as_ref().map(Field::descriptor)),
            unreachable: number("unreachable"),
            cursor: number("cursor").filter(|_| resumes),
            heartbeat: number("heartbeat"),
        }
    }

    /// The revision in a response.
    pub(crate) fn revision(&self, response: &[u8]) -> Option<u64> {
        let (last, outer) = self.revision.as_ref()?.split_last()?;
        let message = outer.iter().try_fold(response, |message, number| last_of(message, *number)?.bytes())?;
        match last_of(message, *last)? {
            scan::Value::Varint(revision) => Some(revision),
            _ => None,
        }
    }

    /// Whether a response names parts that are missing.
    pub(crate) fn is_partial(&self, response: &[u8]) -> bool {
        self.unreachable.is_some_and(|number| last_of(response, number).is_some())
    }

    /// Whether streams of the method can be resumed.
    pub(crate) fn resumes(&self) -> bool {
        self.cursor.is_some()
    }

    /// The cursor in a response, as JSON has it without its quotes.
    pub(crate) fn cursor(&self, response: &[u8]) -> Option<String> {
        Some(STANDARD.encode(last_of(response, self.cursor?)?.bytes()?))
    }

    /// Whether a response only says that the stream is alive.
    pub(crate) fn is_heartbeat(&self, response: &[u8]) -> bool {
        self.heartbeat.is_some_and(|number| last_of(response, number).is_some())
    }
}

/// The last value of a field, which is the one that counts.
fn last_of(message: &[u8], number: u32) -> Option<scan::Value<'_>> {
    scan::fields(message).map_while(Result::ok).filter(|field| field.number == number).last().map(|field| field.value)
}

/// The way to the revision: in the response, or in the resource that is the whole answer. The revision of one part says
/// nothing of the others.
fn revision_path(response: &MessageDescriptor, body: Option<&FieldDescriptor>) -> Option<Vec<u32>> {
    let marked = |message: &MessageDescriptor| {
        message.fields().find(|field| {
            let options = field.options();
            let mut options = options.extensions();
            options.any(|(option, value)| option.full_name() == REVISION && value.as_bool() == Some(true))
        })
    };
    if let Some(field) = marked(response) {
        return Some(vec![field.number()]);
    }
    let alone = response.fields().next().filter(|_| response.fields().len() == 1);
    let field = body.cloned().or(alone).filter(|field| !field.is_list() && !field.is_map())?;
    match field.kind() {
        Kind::Message(resource) => Some(vec![field.number(), marked(&resource)?.number()]),
        _ => None,
    }
}

/// Without the option an answer is for its reader alone, who asks each time whether it is still true. Caches share only
/// what all callers may read.
fn cache_control(binding: &Binding, access: Access) -> HeaderValue {
    let options = binding.method.options();
    let cache = options.extensions().find(|(option, _)| option.full_name() == CACHE);
    let text = cache.and_then(|(_, value)| {
        let cache = value.as_message()?;
        let max_age = cache.get_field_by_name("max_age")?;
        let seconds = max_age.as_message()?.get_field_by_name("seconds")?.as_i64()?;
        let public = cache.get_field_by_name("public").as_deref().and_then(Value::as_bool) == Some(true);
        let public = public && access == Access::Public;
        Some(format!("{}, max-age={seconds}", if public { "public" } else { "private" }))
    });
    let text = text.unwrap_or_else(|| "private, no-cache".to_owned());
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("no-store"))
}
