//! Renders one event as text.

use mesh_proto::mesh::events::v1::Event;
use prost_types::Any;

use crate::message::Types;

/// An event as a line: time, position, type, key, content.
pub(crate) fn line(event: &Event, types: &Types) -> String {
    let content = event.data.as_ref().map(|data| types.line(data)).unwrap_or_default();
    format!("{} {content}", head(event))
}

/// Time, position, type and key of an event.
pub(crate) fn head(event: &Event) -> String {
    let time = event.time.map_or("snapshot".to_owned(), |time| time.to_string());
    let kind = event.data.as_ref().map(|data| short(&data.type_url)).unwrap_or_default();
    format!("{time} {} {kind} {}", event.position, event.key)
}

/// An event as a JSON object, as protobuf maps it.
pub(crate) fn object(event: &Event, types: &Types) -> String {
    Any::from_msg(event).map(|any| types.line(&any)).unwrap_or_default()
}

/// The name of a type without its package.
pub(crate) fn short(name: &str) -> &str {
    name.rsplit(['.', '/']).next().unwrap_or_default()
}
