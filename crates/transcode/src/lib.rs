//! Protobuf's wire format to JSON and back, bytes to bytes, from descriptors.
//!
//! - [`Schema`] holds the tables of all messages of a descriptor pool, compiled once.
//! - [`Schema`] finds a [`Message`] by name, and a message its [`Field`]s.
//!
//! See <https://protobuf.dev/programming-guides/json/> for the specification.

mod error;
#[cfg(test)]
mod sample;
#[expect(dead_code, reason = "the two directions read the tables")]
mod table;

pub use error::{JsonError, Mistake, WireError};
pub use table::{Cardinality, Field, Kind, MAX_DEPTH, Message, Schema};
