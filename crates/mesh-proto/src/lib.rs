//! The contracts of mesh itself, generated from `proto/google` and `proto/mesh`: long work (`google::longrunning`), its
//! streams (`mesh::operations`) and the options that a contract may use (`mesh::options`).
//!
//! The build script reads nothing else under `proto/`, so a change of the system's contracts does not compile mesh anew.

// Generated code carries the comments of the contract, and no others.
#![allow(missing_docs, unreachable_pub)]

include!(concat!(env!("OUT_DIR"), "/contracts.rs"));

/// These contracts as an encoded `google.protobuf.FileDescriptorSet`, with comments and options.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contracts.bin"));
