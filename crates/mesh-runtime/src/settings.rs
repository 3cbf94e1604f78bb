//! Settings: text by key from one file, then the environment, then flags; the later wins.
//!
//! Each module of mesh declares the keys that it reads, and a [`Settings`] hands them out once. A key that is left over
//! is unknown, so there is no second list of keys. All mistakes are reported together, each with where it was set and
//! what is allowed there.
//!
//! Guarantees: an unknown key, a value of the wrong type or out of range is an error, never a default. A secret is
//! neither printed nor part of an error.

mod key;
mod listing;
mod merged;
mod own;
pub mod parse;
mod source;

pub use key::Key;
pub use listing::{Listing, Shown};
pub use merged::{Settings, variable};
pub use own::{Declared, Setting, Value, Values};
pub use source::{Error, Problem, Source};
