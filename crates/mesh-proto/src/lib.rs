//! The contracts of mesh, generated from `proto/buf`, `proto/google`, `proto/grpc` and `proto/mesh`: long work
//! (`google::longrunning`), its streams (`mesh::operations`), health (`grpc::health`) and the options of a contract
//! (`mesh::options`, and `buf::validate` for the bounds of fields).
//!
//! Does not: contain a contract of a service. The build script reads no other folder, so an edit of a service's
//! contract does not rebuild this crate.

// Generated code has the comments of the contracts only.
#![allow(missing_docs, unreachable_pub)]

mod events;

pub use events::{Event, Events, pack};

include!(concat!(env!("OUT_DIR"), "/contracts.rs"));

/// These contracts as an encoded `google.protobuf.FileDescriptorSet`, with comments and options.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contracts.bin"));
