//! `google/protobuf/descriptor.proto` with options as bytes: the types of `prost-types` drop custom options, which
//! decide most of what is compared. A set that is read and written keeps them.

use prost::Message as _;

/// A `google.protobuf.FileDescriptorSet`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FileSet {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct File {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) package: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) imports: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) messages: Vec<Message>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) enums: Vec<Enum>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) services: Vec<Service>,
    #[prost(string, tag = "12")]
    pub(crate) syntax: String,
    #[prost(int32, optional, tag = "14")]
    pub(crate) edition: Option<i32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) fields: Vec<Field>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) messages: Vec<Message>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) enums: Vec<Enum>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub(crate) options: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub(crate) oneofs: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Field {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "3")]
    pub(crate) number: i32,
    #[prost(int32, tag = "4")]
    pub(crate) label: i32,
    #[prost(int32, tag = "5")]
    pub(crate) kind: i32,
    #[prost(string, tag = "6")]
    pub(crate) type_name: String,
    #[prost(string, optional, tag = "7")]
    pub(crate) default_value: Option<String>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(crate) options: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "9")]
    pub(crate) oneof: Option<i32>,
    #[prost(string, tag = "10")]
    pub(crate) json_name: String,
    #[prost(bool, tag = "17")]
    pub(crate) proto3_optional: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Enum {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) values: Vec<EnumValue>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub(crate) options: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EnumValue {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(int32, tag = "2")]
    pub(crate) number: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Service {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) methods: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Method {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) request: String,
    #[prost(string, tag = "3")]
    pub(crate) response: String,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(crate) options: Option<Vec<u8>>,
    #[prost(bool, tag = "5")]
    pub(crate) client_streaming: bool,
    #[prost(bool, tag = "6")]
    pub(crate) server_streaming: bool,
}

/// A `google.protobuf.OneofDescriptorProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Oneof {
    #[prost(string, tag = "1")]
    name: String,
}

impl Message {
    /// The name of a oneof; empty if it cannot be read.
    pub(crate) fn oneof(&self, number: i32) -> String {
        let encoded = usize::try_from(number).ok().and_then(|number| self.oneofs.get(number));
        encoded.and_then(|encoded| Oneof::decode(&**encoded).ok()).unwrap_or_default().name
    }
}

/// The name of something in a scope, in full.
pub(crate) fn full(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

/// Decodes a set, and sorts it by names: two sets with the same files have the same bytes.
pub(crate) fn decode(set: &[u8]) -> Result<FileSet, prost::DecodeError> {
    let mut set = FileSet::decode(set)?;
    set.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(set)
}
