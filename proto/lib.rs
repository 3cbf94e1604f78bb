//! The contracts of the system: everything a service promises, generated from the `.proto` files beside this one.
//!
//! One module a package and version: `catalog::v1` would hold the messages, the typed client and the server trait of
//! `catalog.v1`. A new file under `proto/` appears here by itself; nothing generated is ever checked in. The contracts
//! of mesh itself, such as `google::longrunning`, come from the crate mesh-proto.

// Generated code carries the comments of the contract, and no others.
#![allow(missing_docs, unreachable_pub)]

pub use mesh_proto::{google, mesh};

include!(concat!(env!("OUT_DIR"), "/contracts.rs"));

/// The system's contracts, and what they import, as an encoded `google.protobuf.FileDescriptorSet`, with comments and
/// options: what reflection serves, and where mesh reads which calls may be retried.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contracts.bin"));
