//! Compares builds of services by their manifests, and orders their deployment.
//!
//! Modules, in reading order: [`manifest`] is what a build says of itself, [`view`] its contracts, read by `descriptor` and
//! `options`. [`compare`] compares two views of a contract, with `bounds`; [`pair`] two builds. [`order`] finds the steps, and
//! [`plan`] puts all of it into words. [`gate`] is for a build that starts.
//! [`migrations`] reads SQL.
//!
//! Guarantees:
//! - No input panics: a manifest that is cut or too large is refused, in words.
//! - Compatibility is a relation of two builds, so an order of steps needs no search over states.
//!
//! Does not: ask what runs, or know a runtime. `mesh release` does that.

mod bounds;
pub mod compare;
mod descriptor;
pub mod gate;
pub mod manifest;
pub mod migrations;
#[cfg(test)]
mod mutated;
mod options;
pub mod order;
pub mod pair;
pub mod plan;
#[cfg(test)]
mod samples;
pub mod view;

pub use compare::{Finding, Severity};
pub use gate::{Exempt, Unmet};
pub use manifest::{Build, complete};
pub use plan::{Change, Plan, Running, Step, System, Verdict};
pub use view::{Refused, View};
