//! Protobuf's wire format to JSON and back, bytes to bytes, from descriptors.
//!
//! - [`Schema`] holds the tables of all messages of a descriptor pool, compiled once.
//! - [`Schema`] finds a [`Message`] by name, and a message its [`Field`]s.
//! - [`Message::to_json`] and [`Message::to_wire`] transcode.
//! - [`Routes`] finds the method of an HTTP request by the rules of `google.api.http`.
//!
//! See <https://protobuf.dev/programming-guides/json/> for the specification.

mod annotations;
mod bad_request;
mod bind;
mod binding;
mod bits;
#[cfg(test)]
mod bounds;
mod code;
mod entries;
mod error;
mod field_mask;
mod field_path;
mod json;
#[cfg(test)]
mod library;
mod mask;
#[cfg(test)]
mod mutated;
mod nearest;
mod normalise;
pub mod openapi;
mod percent;
mod problem;
mod query;
mod read;
mod route;
mod router;
mod rule;
#[cfg(test)]
mod sample;
pub mod scan;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod time;
mod wire;
mod write;

pub use bad_request::{BadRequest, Violation};
pub use bind::{FromHeader, Input};
pub use binding::{Binding, Body};
pub use code::{code_name, http_status};
pub use error::{JsonError, Mistake, WireError};
pub use percent::{decode as decode_percent, decode_path};
pub use problem::{problem, status};
pub use route::{Matched, Miss, Routes};
pub use rule::RuleError;
pub use table::{Cardinality, Field, Kind, MAX_DEPTH, Message, Schema};
