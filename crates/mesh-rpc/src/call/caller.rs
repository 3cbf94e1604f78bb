//! The caller: on whose behalf a call is made.
//!
//! There is no authentication yet, so each caller from the network is anonymous. A caller never comes from a field of a
//! request.

use std::sync::Arc;

/// The identity of a caller. Cheap to clone.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(Option<Arc<str>>);

impl Caller {
    /// A caller by name.
    pub fn named(name: &str) -> Self {
        Self((name != ANONYMOUS).then(|| name.into()))
    }

    /// The name, as databases hold it.
    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or(ANONYMOUS)
    }
}

/// The name of a caller that is not authenticated.
const ANONYMOUS: &str = "anonymous";
