//! Protobuf's wire format to JSON and back, bytes to bytes, from descriptors.
//!
//! - [`Schema`] holds the tables of all messages of a descriptor pool, compiled once.
//! - [`Schema`] finds a [`Message`] by name, and a message its [`Field`]s.
//! - [`Routes`] finds the method of an HTTP request by the rules of `google.api.http`.
//!
//! See <https://protobuf.dev/programming-guides/json/> for the specification.

mod annotations;
mod binding;
mod bits;
mod code;
mod entries;
mod error;
mod field_mask;
#[expect(dead_code, reason = "values are bound by it")]
mod field_path;
mod json;
#[cfg(test)]
mod library;
mod normalise;
pub mod openapi;
#[cfg_attr(not(test), expect(dead_code, reason = "values are bound by it"))]
mod percent;
mod read;
#[expect(dead_code, reason = "values are bound by it")]
mod route;
mod router;
mod rule;
#[cfg(test)]
mod sample;
mod table;
mod template;
#[cfg(test)]
mod tests;
mod time;
mod wire;
mod write;

pub use binding::{Binding, Body};
pub use code::http_status;
pub use error::{JsonError, Mistake, WireError};
pub use route::{Matched, Miss, Routes};
pub use rule::RuleError;
pub use table::{Cardinality, Field, Kind, MAX_DEPTH, Message, Schema};
