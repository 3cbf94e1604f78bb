//! The edge: HTTP for clients that speak no gRPC, in front of the layers that every call passes.
//!
//! A request becomes a gRPC call by the `google.api.http` rules of the contracts, and enters the same layers as any
//! other call: limits, deadline, trace and metrics are theirs. The edge retries nothing and caches nothing.
//!
//! From the outside in:
//! - [`Edge`] answers a request. `guard` refuses requests that other sites make a browser send, by the [`Site`], and
//!   `cors` has the origins that may read answers.
//! - `rate` has the limits of each client, `memory` what their bodies take, and `client` tells clients apart. `shares`
//!   counts what each holds.
//! - `contract` is what is public: the rules, and the tables for JSON.
//! - `call` makes the gRPC call and reads its messages. `request` makes the call's request of path, query, headers and
//!   body, `body` reads that body, and `given` has the headers that give a field.
//! - `grpc_web` passes calls of gRPC-Web on.
//! - `unary` answers with one message, `ndjson` and `sse` with a stream of them. `validators` has the entity tags.
//! - `pages` are about the API itself: a start page, documentation, OpenAPI. `web` is a page of the project's own, of a
//!   `folder`. [`Document`] answers with such a file.
//! - `refusal` is the one error body: `application/problem+json`.
//!
//! See: decision 0032.

mod answer;
mod body;
mod call;
mod chain;
#[cfg(test)]
mod chat;
mod client;
mod contract;
mod cors;
mod document;
mod example;
mod folder;
mod forward;
mod given;
mod grpc_web;
mod guard;
mod headers;
mod memory;
#[cfg(test)]
mod mutated;
mod ndjson;
mod pages;
mod rate;
#[cfg(test)]
mod received;
mod refusal;
mod request;
mod settings;
mod shape;
mod shares;
mod site;
mod sse;
mod stream;
mod unary;
mod validators;
mod web;
mod websocket;

pub use answer::Edge;
pub use client::Network;
pub use document::Document;
pub use forward::{forward, from_outside};
pub use settings::{Docs, Settings};
pub use site::Site;
