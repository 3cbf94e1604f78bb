//! Items and their rules. No I/O, no wire types.

use mesh::Violations;
use uuid::Uuid;

/// An item as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    /// Microseconds since 1970.
    pub(crate) create_time: i64,
}

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("item {0} does not exist")]
    NotFound(Uuid),
}

impl Item {
    /// A new item. Its id begins with the time, so ids sort in the order of creation.
    pub(crate) fn new(name: String, now: i64) -> Self {
        Self { id: Uuid::now_v7(), name, create_time: now }
    }
}

/// Whether a name is valid; [`NAME`] describes a valid one.
pub(crate) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= 200
}

/// The description of a valid name, for violations.
pub(crate) const NAME: &str = "must have 1 to 200 characters and not be blank";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_name_refuses_blank_and_long_names() {
        assert!(is_name("x") && is_name(&"é".repeat(200)));
        assert!(!is_name("") && !is_name(" \t") && !is_name(&"é".repeat(201)));
    }
}
