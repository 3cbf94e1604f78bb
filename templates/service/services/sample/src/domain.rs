//! What an item is, and the rules it keeps. No I/O, no wire types.

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

/// Why the service refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Invalid(Violations),
    #[error("there is no item {0}")]
    NotFound(Uuid),
}

impl Item {
    /// A new item. Its id begins with the time, so the order of ids is the order of creation.
    pub(crate) fn new(name: String, now: i64) -> Self {
        Self { id: Uuid::now_v7(), name, create_time: now }
    }
}

/// Whether somebody may store this name; [`NAME`] says what it must be.
pub(crate) fn is_name(name: &str) -> bool {
    !name.trim().is_empty() && name.chars().count() <= 200
}

/// What a name must be, for whoever sent another one.
pub(crate) const NAME: &str = "must have 1 to 200 characters and not be blank";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_something_and_is_short() {
        assert!(is_name("x") && is_name(&"é".repeat(200)));
        assert!(!is_name("") && !is_name(" \t") && !is_name(&"é".repeat(201)));
    }
}
