//! Items and their rules. No I/O, no wire types.

use mesh::{Text, Violations};
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
    #[error("the copy has no key `{0}`")]
    NotCopied(String),
}

impl Item {
    /// A new item. Its id begins with the time, so ids sort in the order of creation.
    pub(crate) fn new(name: String, now: i64) -> Self {
        Self { id: Uuid::now_v7(), name, create_time: now }
    }
}

/// The rule for names. The contract repeats its words.
pub(crate) const NAME: Text = Text::line(200);
