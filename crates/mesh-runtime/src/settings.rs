//! Settings: text by key, from one file, then the environment, then flags. The later source wins.
//!
//! Each module of mesh declares the keys that it reads, and [`Settings`] returns each of them once. A key that no
//! module has read is unknown, so that there is no second list of keys.
//!
//! Guarantees:
//! - An unknown key, a value of the wrong type and a value out of range are errors, never defaults (INV-4).
//! - All mistakes are reported together, each with its source and the allowed values.
//! - A secret is neither printed nor part of an error. Each has a twin, `KEY_file`, that names a file with the value.
//!
//! See: docs/decisions/0008-configuration-without-a-framework.md, docs/decisions/0020-settings-of-a-service.md

mod key;
mod line;
mod listing;
mod merged;
pub mod parse;
mod secret_file;
mod setting;
mod source;
mod sources;
mod values;

pub use key::Key;
pub use line::{line_of, toml_mistake};
pub use listing::{InForce, Listing, Shown};
pub use merged::{Settings, variable};
pub use setting::{Setting, Value};
pub use source::{Error, Problem, Source};
pub use values::{Declared, Values};
