//! Puts wire into the order that JSON is written in.
//!
//! A message on the wire may have its fields in any order and more than once: of a scalar and a oneof the last one
//! counts, messages are merged, and a map may have a key twice. Encoders emit ascending numbers, each once, so only
//! other wire pays for this.

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use crate::error::WireError;

/// Why a message was not written.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Its wire has to be normalised first.
    OutOfOrder,
    Error(WireError),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

/// The same message with ascending field numbers, each oneof and each key of a map once. An Any within it stays as it
/// is.
pub(crate) fn normalise(descriptor: &MessageDescriptor, wire: &[u8]) -> Result<Vec<u8>, WireError> {
    match DynamicMessage::decode(descriptor.clone(), wire) {
        Ok(message) => Ok(message.encode_to_vec()),
        Err(_) => Err(WireError::Malformed("it is not a message of its type")),
    }
}
