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

/// Checks a name that somebody wants to store.
pub(crate) fn check_name(name: &str, bad: &mut Violations) {
    let valid = !name.trim().is_empty() && name.chars().count() <= 200;
    bad.check(valid, "name", "must have 1 to 200 characters and not be blank");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(name: &str) -> bool {
        let mut bad = Violations::default();
        check_name(name, &mut bad);
        bad.finish().is_ok()
    }

    #[test]
    fn a_name_says_something_and_is_short() {
        assert!(allows("x") && allows(&"é".repeat(200)));
        assert!(!allows("") && !allows(" \t") && !allows(&"é".repeat(201)));
    }
}
