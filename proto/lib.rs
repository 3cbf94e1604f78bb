//! The contracts of the system: everything a service promises, generated from the `.proto` files beside this one.
//!
//! One module a package and version: `catalog::v1` would hold the messages, the typed client and the server trait of
//! `catalog.v1`. A new file under `proto/` appears here by itself; nothing generated is ever checked in.

// Generated code carries the comments of the contract, and no others.
#![allow(missing_docs, unreachable_pub)]

include!(concat!(env!("OUT_DIR"), "/contracts.rs"));

/// Every contract as an encoded `google.protobuf.FileDescriptorSet`, with comments and method options kept: what
/// reflection serves, and where the kit reads what may be retried.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contracts.bin"));
