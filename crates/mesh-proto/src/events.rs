//! Events: the messages that a contract declares with the option `mesh.options.v1.event`.
//!
//! The build script of the contracts implements these traits.
//!
//! See: docs/decisions/0034-events-are-numbered-at-the-commit.md

use prost::{DecodeError, Message, Name};
use prost_types::Any;

/// A message that a contract declares as an event.
pub trait Event: Message + Name {
    /// The value of the field that names its subject. Events of one key are in order.
    fn key(&self) -> &str;
}

/// The events of a package: an enum with a variant for each.
pub trait Events: Sized + Send + 'static {
    /// The full names of their types.
    const TYPES: &'static [&'static str];

    /// Decodes an event. An event of a type that is not in [`TYPES`](Self::TYPES) is not decoded, and is no error.
    ///
    /// # Errors
    ///
    /// An event of a known type that cannot be decoded.
    fn decode(event: Any) -> Result<Self, DecodeError>;

    /// The key of the event; empty if its type is not known.
    fn key(&self) -> &str;

    /// Encodes the event.
    fn pack(self) -> Any;
}

/// Encodes an event. In place of `Any::from_msg`, which returns a result although it cannot fail.
pub fn pack(event: &impl Event) -> Any {
    Any { type_url: type_url(event), value: event.encode_to_vec() }
}

fn type_url<E: Event>(_: &E) -> String {
    E::type_url()
}
