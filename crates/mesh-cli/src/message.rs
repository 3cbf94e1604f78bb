//! Messages of types that this program was not written for: what a service's progress is, and what its work results in,
//! only its contract knows. So they are read by the descriptors that the contracts are compiled into, and shown as
//! JSON in protobuf's own mapping, as grpcurl has it.
//!
//! Written out here and not left to serde, because people do not want everything: bytes that would fill the screen are
//! cut short, and a type that no contract of ours declares is named, where a library has to give up.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use prost_types::{Any, Duration, Timestamp};
use serde_json::{Map, Value as Json, json};

/// How many bytes of a field are shown.
const BYTES: usize = 24;
/// How deep messages are opened that hold messages of any type: somebody may have put a thousand into each other.
const DEPTH: usize = 8;

/// Every message of the contracts; with none of them, all types are unknown.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(contracts::FILE_DESCRIPTOR_SET).unwrap_or_default();
    #[cfg(test)]
    let pool = tests::with_progress(pool);
    pool
});

/// A message as JSON, with its type; of one that cannot be read, its type and its size.
fn json(any: &Any) -> Json {
    within(any, DEPTH)
}

fn within(any: &Any, depth: usize) -> Json {
    let opened = decode(any).filter(|_| depth > 0);
    let mut fields = match opened.map(|known| message(&known, depth - 1)) {
        Some(Json::Object(fields)) => fields,
        // What has a form of its own, such as a Timestamp.
        Some(value) => Map::from_iter([("value".to_owned(), value)]),
        None => Map::from_iter([("size".to_owned(), json!(size(any.value.len())))]),
    };
    fields.insert("@type".to_owned(), json!(any.type_url));
    Json::Object(fields)
}

/// The same on several lines, for people.
pub(crate) fn pretty(any: &Any) -> String {
    // What JSON leaves as it is may still mean something to a terminal.
    let text = format!("{:#}", json(any));
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// The same in a line, without the type if that is known.
pub(crate) fn line(any: &Any) -> String {
    match decode(any) {
        Some(known) => message(&known, DEPTH).to_string(),
        None => format!("{} ({})", any.type_url, size(any.value.len())),
    }
}

/// How much of how much is done, if the message has two whole numbers of these names.
pub(crate) fn done_of_total(any: &Any) -> Option<(u64, u64)> {
    let message = decode(any)?;
    let field = |name| message.get_field_by_name(name).and_then(|value| whole(&value));
    Some((field("done")?, field("total")?))
}

fn decode(any: &Any) -> Option<DynamicMessage> {
    let (_, name) = any.type_url.rsplit_once('/')?;
    DynamicMessage::decode(POOL.get_message_by_name(name)?, any.value.as_slice()).ok()
}

/// Less than nothing is nothing.
fn whole(value: &Value) -> Option<u64> {
    match *value {
        Value::I32(number) => Some(u64::try_from(number).unwrap_or_default()),
        Value::I64(number) => Some(u64::try_from(number).unwrap_or_default()),
        Value::U32(number) => Some(number.into()),
        Value::U64(number) => Some(number),
        _ => None,
    }
}

fn message(message: &DynamicMessage, depth: usize) -> Json {
    let shown = match message.descriptor().full_name() {
        "google.protobuf.Any" => message.transcode_to::<Any>().ok().map(|any| within(&any, depth)),
        "google.protobuf.Timestamp" => message.transcode_to::<Timestamp>().ok().map(|time| json!(time.to_string())),
        "google.protobuf.Duration" => message.transcode_to::<Duration>().ok().map(|time| json!(time.to_string())),
        _ => None,
    };
    shown.unwrap_or_else(|| {
        let fields =
            message.fields().map(|(field, held)| (field.json_name().to_owned(), value(held, &field.kind(), depth)));
        Json::Object(fields.collect())
    })
}

fn value(held: &Value, kind: &Kind, depth: usize) -> Json {
    match held {
        Value::Bool(value) => json!(value),
        Value::I32(number) => json!(number),
        Value::U32(number) => json!(number),
        // JSON's numbers are not exact beyond 53 bits.
        Value::I64(number) => json!(number.to_string()),
        Value::U64(number) => json!(number.to_string()),
        Value::F32(number) if number.is_finite() => json!(number),
        Value::F32(number) => json!(number.to_string()),
        Value::F64(number) if number.is_finite() => json!(number),
        Value::F64(number) => json!(number.to_string()),
        Value::String(text) => json!(text),
        Value::Bytes(bytes) => json!(base64(bytes)),
        Value::EnumNumber(number) => match kind {
            Kind::Enum(kind) => kind.get_value(*number).map_or(json!(number), |value| json!(value.name())),
            _ => json!(number),
        },
        Value::Message(held) => message(held, depth),
        Value::List(values) => values.iter().map(|held| value(held, kind, depth)).collect(),
        Value::Map(values) => {
            let kind = match kind {
                Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                _ => kind.clone(),
            };
            Json::Object(values.iter().map(|(name, held)| (key(name), value(held, &kind, depth))).collect())
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    match bytes.get(..BYTES) {
        Some(first) if bytes.len() > BYTES => format!("{}… ({})", STANDARD.encode(first), size(bytes.len())),
        _ => STANDARD.encode(bytes),
    }
}

fn size(bytes: usize) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

fn key(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use contracts::google::longrunning::{Operation, operation};
    use contracts::mesh::operations::v1::{OperationMetadata, State, WatchResponse};
    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

    use super::*;

    /// How far some work is, as the contract of a service would have it. No service's own, because services come and go.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(crate) struct Progress {
        #[prost(int32, tag = "1")]
        pub(crate) done: i32,
        #[prost(int32, tag = "2")]
        pub(crate) total: i32,
    }

    impl prost::Name for Progress {
        const NAME: &str = "Progress";
        const PACKAGE: &str = "test.v1";

        fn type_url() -> String {
            format!("type.googleapis.com/{}", Self::full_name())
        }
    }

    pub(super) fn with_progress(mut pool: DescriptorPool) -> DescriptorPool {
        let field = |name: &str, number| FieldDescriptorProto {
            name: Some(name.to_owned()),
            number: Some(number),
            label: Some(Label::Optional.into()),
            r#type: Some(Type::Int32.into()),
            ..FieldDescriptorProto::default()
        };
        let message = DescriptorProto {
            name: Some("Progress".to_owned()),
            field: vec![field("done", 1), field("total", 2)],
            ..DescriptorProto::default()
        };
        let file = FileDescriptorProto {
            name: Some("test.proto".to_owned()),
            package: Some("test.v1".to_owned()),
            message_type: vec![message],
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        };
        pool.add_file_descriptor_proto(file).unwrap();
        pool
    }

    fn any(message: &impl prost::Name) -> Any {
        Any::from_msg(message).unwrap()
    }

    #[test]
    fn known_messages_are_json_with_their_type() {
        let metadata = OperationMetadata {
            state: State::Running.into(),
            attempt: 2,
            create_time: Some(Timestamp { seconds: 1, nanos: 0 }),
            progress: Some(any(&Progress { done: 1, total: 4 })),
            ..OperationMetadata::default()
        };
        let expected = json!({
            "@type": "type.googleapis.com/mesh.operations.v1.OperationMetadata",
            "state": "STATE_RUNNING",
            "attempt": 2,
            "createTime": "1970-01-01T00:00:01Z",
            "progress": {"@type": "type.googleapis.com/test.v1.Progress", "done": 1, "total": 4},
        });
        assert_eq!(json(&any(&metadata)), expected);
    }

    #[test]
    fn long_bytes_are_cut_short() {
        let cursor = |length| json(&any(&WatchResponse { cursor: vec![0; length], event: None }));
        assert_eq!(cursor(BYTES)["cursor"], "A".repeat(32));
        assert_eq!(cursor(5_000_000)["cursor"], format!("{}… (5000000 bytes)", "A".repeat(32)));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let unknown = Any { type_url: "type.googleapis.com/made.up.V1".to_owned(), value: vec![0; 3] };
        assert_eq!(json(&unknown), json!({"@type": "type.googleapis.com/made.up.V1", "size": "3 bytes"}));
        assert_eq!(line(&unknown), "type.googleapis.com/made.up.V1 (3 bytes)");
        let broken = Any { value: vec![0xff], ..any(&Progress::default()) };
        assert_eq!(line(&broken), "type.googleapis.com/test.v1.Progress (1 byte)");

        // Also inside of one that is known, and however deep they are in each other.
        let around = |inner| any(&Operation { metadata: Some(inner), ..Operation::default() });
        assert_eq!(json(&around(unknown.clone()))["metadata"], json(&unknown));
        let deep = (0..2000).fold(unknown, |inner, _| around(inner));
        assert!(json(&deep).to_string().len() < 1000);
    }

    #[test]
    fn two_numbers_make_progress() {
        assert_eq!(done_of_total(&any(&Progress { done: 0, total: 4 })), Some((0, 4)));
        assert_eq!(done_of_total(&any(&Progress { done: -1, total: 4 })), Some((0, 4)));
        let other = Operation { result: Some(operation::Result::Error(Default::default())), ..Operation::default() };
        assert_eq!(done_of_total(&any(&other)), None);
    }
}
