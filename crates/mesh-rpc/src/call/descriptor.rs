//! The fields of `google/protobuf/descriptor.proto` that the method table reads, and the options of `mesh.options.v1`.
//! The types of `prost-types` drop unknown options.

use mesh_proto::mesh::options::v1::Authorization;
use prost_types::method_options::IdempotencyLevel;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct FileDescriptorSet {
    #[prost(message, repeated, tag = "1")]
    pub(super) files: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct File {
    #[prost(string, tag = "2")]
    pub(super) package: String,
    #[prost(message, repeated, tag = "6")]
    pub(super) services: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Service {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) methods: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Method {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "4")]
    pub(super) options: Option<Options>,
    #[prost(bool, tag = "5")]
    pub(super) client_streaming: bool,
    #[prost(bool, tag = "6")]
    pub(super) server_streaming: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Options {
    #[prost(enumeration = "IdempotencyLevel", tag = "34")]
    pub(super) idempotency_level: i32,
    /// `mesh.options.v1.default_deadline`.
    #[prost(message, optional, tag = "50001")]
    pub(super) default_deadline: Option<prost_types::Duration>,
    /// `mesh.options.v1.authorization`.
    #[prost(message, optional, tag = "50002")]
    pub(super) authorization: Option<Authorization>,
    /// `mesh.options.v1.waits`.
    #[prost(bool, tag = "50004")]
    pub(super) waits: bool,
}
