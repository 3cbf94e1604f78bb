//! An event as a CloudEvent 1.0 in binary mode: its attributes are headers, and its body the event's own bytes.
//!
//! See: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md>, and its documented extensions

use bytes::Bytes;
use mesh_proto::mesh::events::v1::Event;
use mesh_store::{now, timestamp};
use uuid::Uuid;

/// The type of the message that says: the events before are not those that follow.
const RESET: &str = "mesh.events.v1.Reset";

/// A message for a broker: an event, or a reset.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The full name of the event's type.
    pub kind: String,
    /// The attributes of the CloudEvent, all but `datacontenttype`. Values may hold any character.
    pub attributes: Vec<(&'static str, String)>,
    /// The encoded message of the contract.
    pub body: Bytes,
}

impl Message {
    /// The media type of [`body`](Self::body).
    pub const CONTENT_TYPE: &'static str = "application/protobuf";

    /// An event of a service.
    pub fn event(service: &str, epoch: Uuid, event: Event) -> Self {
        let data = event.data.unwrap_or_default();
        let kind = data.type_url.rsplit('/').next().unwrap_or_default().to_owned();
        let time = event.time.unwrap_or_default().to_string();
        let mut attributes = attributes(service, epoch, &kind, event.id, time, event.position);
        attributes.extend([("subject", event.key.clone()), ("partitionkey", event.key)]);
        let causes = [
            ("traceparent", event.traceparent),
            ("correlationid", event.correlation_id),
            ("causationid", event.causation_id),
        ];
        // An attribute is absent, never empty.
        attributes.extend(causes.into_iter().filter(|(_, value)| !value.is_empty()));
        Self { kind, attributes, body: data.value.into() }
    }

    /// A reset: the events of the service behind `position` follow, whatever the stream had before.
    pub fn reset(service: &str, epoch: Uuid, position: i64) -> Self {
        let (id, time) = (Uuid::now_v7().to_string(), timestamp(now()).to_string());
        let attributes = attributes(service, epoch, RESET, id, time, position);
        Self { kind: RESET.to_owned(), attributes, body: Bytes::new() }
    }

    /// Whether it is a reset.
    pub fn is_reset(&self) -> bool {
        self.kind == RESET
    }
}

fn attributes(
    service: &str,
    epoch: Uuid,
    kind: &str,
    id: String,
    time: String,
    position: i64,
) -> Vec<(&'static str, String)> {
    vec![
        ("specversion", "1.0".to_owned()),
        ("id", id),
        ("source", service.to_owned()),
        ("type", kind.to_owned()),
        ("time", time),
        // Integers of CloudEvents have 32 bits.
        ("sequence", position.to_string()),
        ("epoch", epoch.to_string()),
    ]
}

/// The last message that a broker has, as far as a relay needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    pub(super) id: String,
    pub(super) position: i64,
    pub(super) epoch: String,
    pub(super) is_reset: bool,
}

impl Last {
    /// Its position in the log of the service.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Reads the attributes of a message; `None` if no relay wrote it.
    pub fn read(attribute: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let position = attribute("sequence")?.parse().ok()?;
        let is_reset = attribute("type")? == RESET;
        Some(Self { id: attribute("id")?, position, epoch: attribute("epoch")?, is_reset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_read_back_as_the_last_one() {
        let epoch = Uuid::new_v4();
        let mut event = Event { id: "one".to_owned(), position: 7, key: "a key".to_owned(), ..Event::default() };
        event.data.get_or_insert_default().type_url = "type.googleapis.com/things.v1.Made".to_owned();
        for (message, is_reset) in
            [(Message::event("things", epoch, event), false), (Message::reset("things", epoch, 7), true)]
        {
            let attribute = |name: &str| {
                let found = message.attributes.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| value.clone())
            };
            let last = Last::read(attribute).unwrap();
            assert_eq!((last.position, last.is_reset, last.epoch), (7, is_reset, epoch.to_string()));
            assert_eq!(Some(last.id), attribute("id"));
            assert!(message.attributes.iter().all(|(_, value)| !value.is_empty()), "{message:?}");
        }
        assert_eq!(Last::read(|_| None), None);
    }
}
