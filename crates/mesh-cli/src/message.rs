//! Renders messages of types that are known only at run time: the progress and the response of an operation.
//!
//! The JSON follows protobuf's mapping, with two differences: long `bytes` are shortened, and a message that cannot be
//! decoded is rendered as its type and its size.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage as _, Value};
use prost_types::{Any, Duration, FileDescriptorProto, Timestamp};
use serde_json::{Map, Value as Json, json};

/// The largest number of bytes shown of a field.
const BYTES: usize = 24;
/// The largest number of `Any` messages opened inside each other.
const DEPTH: usize = 8;

/// The message types that can be decoded.
pub(crate) struct Types(DescriptorPool);

impl Default for Types {
    /// The types of mesh's own contracts.
    fn default() -> Self {
        Self(DescriptorPool::decode(mesh_proto::FILE_DESCRIPTOR_SET).unwrap_or_default())
    }
}

impl Types {
    /// Whether the types of a `.proto` file are known, by the name that contracts import it by.
    pub(crate) fn has_file(&self, name: &str) -> bool {
        self.0.get_file_by_name(name).is_some()
    }

    /// Adds the types of several files, in any order. A set that is invalid or lacks an imported file adds nothing.
    pub(crate) fn add(&mut self, files: impl IntoIterator<Item = FileDescriptorProto>) {
        let mut pool = self.0.clone();
        if pool.add_file_descriptor_protos(files).is_ok() {
            self.0 = pool;
        }
    }

    /// The message as JSON on several lines, with its type.
    pub(crate) fn pretty(&self, any: &Any) -> String {
        // JSON leaves some control characters unescaped, and a terminal would obey them.
        let text = format!("{:#}", self.json(any));
        text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
    }

    /// The message as JSON on one line, without its type; its type and size if it cannot be decoded.
    pub(crate) fn line(&self, any: &Any) -> String {
        match self.decode(any) {
            Some(known) => self.message(&known, DEPTH).to_string(),
            None => format!("{} ({})", any.type_url, size(any.value.len())),
        }
    }

    /// The fields `done` and `total`, if the message has both and both are integers. A negative number counts as 0.
    pub(crate) fn done_of_total(&self, any: &Any) -> Option<(u64, u64)> {
        let message = self.decode(any)?;
        let field = |name| message.get_field_by_name(name).and_then(|value| whole(&value));
        Some((field("done")?, field("total")?))
    }

    fn decode(&self, any: &Any) -> Option<DynamicMessage> {
        let (_, name) = any.type_url.rsplit_once('/')?;
        DynamicMessage::decode(self.0.get_message_by_name(name)?, any.value.as_slice()).ok()
    }

    fn json(&self, any: &Any) -> Json {
        self.within(any, DEPTH)
    }

    fn within(&self, any: &Any, depth: usize) -> Json {
        let opened = self.decode(any).filter(|_| depth > 0);
        let mut fields = match opened.map(|known| self.message(&known, depth - 1)) {
            Some(Json::Object(fields)) => fields,
            // A type with a JSON form of its own, such as Timestamp.
            Some(value) => Map::from_iter([("value".to_owned(), value)]),
            None => Map::from_iter([("size".to_owned(), json!(size(any.value.len())))]),
        };
        fields.insert("@type".to_owned(), json!(any.type_url));
        Json::Object(fields)
    }

    fn message(&self, message: &DynamicMessage, depth: usize) -> Json {
        let shown = match message.descriptor().full_name() {
            "google.protobuf.Any" => message.transcode_to::<Any>().ok().map(|any| self.within(&any, depth)),
            "google.protobuf.Timestamp" => message.transcode_to::<Timestamp>().ok().map(|time| json!(time.to_string())),
            "google.protobuf.Duration" => message.transcode_to::<Duration>().ok().map(|time| json!(time.to_string())),
            _ => None,
        };
        shown.unwrap_or_else(|| {
            let fields = message
                .fields()
                .map(|(field, held)| (field.json_name().to_owned(), self.value(held, &field.kind(), depth)));
            Json::Object(fields.collect())
        })
    }

    fn value(&self, held: &Value, kind: &Kind, depth: usize) -> Json {
        match held {
            Value::Bool(value) => json!(value),
            Value::I32(number) => json!(number),
            Value::U32(number) => json!(number),
            // A JSON number is exact up to 53 bits.
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
            Value::Message(held) => self.message(held, depth),
            Value::List(values) => values.iter().map(|held| self.value(held, kind, depth)).collect(),
            Value::Map(values) => {
                let kind = match kind {
                    Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                    _ => kind.clone(),
                };
                Json::Object(values.iter().map(|(name, held)| (key(name), self.value(held, &kind, depth))).collect())
            }
        }
    }
}

fn whole(value: &Value) -> Option<u64> {
    match *value {
        Value::I32(number) => Some(u64::try_from(number).unwrap_or_default()),
        Value::I64(number) => Some(u64::try_from(number).unwrap_or_default()),
        Value::U32(number) => Some(number.into()),
        Value::U64(number) => Some(number),
        _ => None,
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
    use mesh_proto::google::longrunning::{Operation, operation};
    use mesh_proto::mesh::operations::v1::{OperationMetadata, State, WatchResponse};
    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FieldDescriptorProto};

    use super::*;

    /// A progress message as the contract of a service defines it.
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

    /// The types of mesh's own contracts, and `Progress`.
    pub(crate) fn types() -> Types {
        let mut types = Types::default();
        types.add([progress_file()]);
        types
    }

    fn progress_file() -> FileDescriptorProto {
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
        FileDescriptorProto {
            name: Some("test.proto".to_owned()),
            package: Some("test.v1".to_owned()),
            message_type: vec![message],
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        }
    }

    fn any(message: &impl prost::Name) -> Any {
        Any::from_msg(message).unwrap()
    }

    #[test]
    fn json_holds_the_type_of_a_known_message() {
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
        assert_eq!(types().json(&any(&metadata)), expected);
    }

    #[test]
    fn json_shortens_long_bytes() {
        let cursor = |length| types().json(&any(&WatchResponse { cursor: vec![0; length], event: None }));
        assert_eq!(cursor(BYTES)["cursor"], "A".repeat(32));
        assert_eq!(cursor(5_000_000)["cursor"], format!("{}… (5000000 bytes)", "A".repeat(32)));
    }

    #[test]
    fn unknown_messages_render_as_type_and_size() {
        let unknown = Any { type_url: "type.googleapis.com/made.up.V1".to_owned(), value: vec![0; 3] };
        assert_eq!(types().json(&unknown), json!({"@type": "type.googleapis.com/made.up.V1", "size": "3 bytes"}));
        assert_eq!(types().line(&unknown), "type.googleapis.com/made.up.V1 (3 bytes)");
        let broken = Any { value: vec![0xff], ..any(&Progress::default()) };
        assert_eq!(types().line(&broken), "type.googleapis.com/test.v1.Progress (1 byte)");

        // The same inside a known message, at any depth.
        let around = |inner| any(&Operation { metadata: Some(inner), ..Operation::default() });
        assert_eq!(types().json(&around(unknown.clone()))["metadata"], types().json(&unknown));
        let deep = (0..2000).fold(unknown, |inner, _| around(inner));
        assert!(types().json(&deep).to_string().len() < 1000);
    }

    #[test]
    fn done_of_total_needs_two_integers() {
        assert_eq!(types().done_of_total(&any(&Progress { done: 0, total: 4 })), Some((0, 4)));
        assert_eq!(types().done_of_total(&any(&Progress { done: -1, total: 4 })), Some((0, 4)));
        let other = Operation { result: Some(operation::Result::Error(Default::default())), ..Operation::default() };
        assert_eq!(types().done_of_total(&any(&other)), None);
    }

    #[test]
    fn types_are_added_from_files_in_any_order_and_all_or_none() {
        let importing = FileDescriptorProto {
            name: Some("importing.proto".to_owned()),
            dependency: vec!["test.proto".to_owned()],
            syntax: Some("proto3".to_owned()),
            ..FileDescriptorProto::default()
        };
        let mut types = Types::default();
        types.add([importing.clone()]);
        assert!(!types.has_file("importing.proto"), "its import is missing");
        types.add([importing, progress_file()]);
        assert!(types.has_file("importing.proto") && types.has_file("test.proto"));
        assert_eq!(types.done_of_total(&any(&Progress { done: 1, total: 4 })), Some((1, 4)));
    }
}
