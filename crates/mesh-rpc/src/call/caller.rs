//! The caller: the identity on whose behalf a call is made.
//!
//! Does not:
//! - authenticate. Every caller from the network is anonymous.
//! - read the caller from a field of a request.

use std::sync::Arc;

/// The identity of a caller. Cheap to clone.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(Option<Arc<str>>);

impl Caller {
    /// Creates a caller from its name.
    pub fn named(name: &str) -> Self {
        Self((name != ANONYMOUS).then(|| name.into()))
    }

    /// The name, as databases store it.
    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or(ANONYMOUS)
    }
}

/// The name of an unauthenticated caller.
const ANONYMOUS: &str = "anonymous";
