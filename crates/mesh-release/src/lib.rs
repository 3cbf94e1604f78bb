//! Compares builds of services by their manifests, and orders their deployment.
//!
//! Modules, in reading order: [`manifest`] is what a build says of itself, [`view`] its contracts, read by `descriptor`
//! and `options`, with the `kinds` of fields. [`compare`] compares two views of a contract, with `bounds`; [`pair`] two
//! builds. `system` is what runs and what is to be deployed, `sentences` what does not fit of it in words, and `edges`
//! what goes before what. [`order`] finds the steps, `rollback` the way back, and [`plan`] has all of it. [`gate`] is
//! for a build that starts. [`migrations`] reads SQL.
//!
//! Guarantees:
//! - No input panics: a manifest that is cut or too large is refused, in words.
//! - Compatibility is a relation of two builds, so an order of steps needs no search over states.
//!
//! Does not: ask what runs, or know a runtime. `mesh release` does that.

mod bounds;
pub mod compare;
mod descriptor;
mod edges;
pub mod gate;
mod kinds;
pub mod manifest;
pub mod migrations;
#[cfg(test)]
mod mutated;
mod options;
pub mod order;
pub mod pair;
pub mod plan;
mod rollback;
#[cfg(test)]
mod samples;
mod sentences;
mod system;
pub mod view;

pub use compare::{Finding, Severity};
pub use gate::{Exempt, Unmet};
pub use manifest::{Build, complete};
pub use plan::{Change, Plan, Step, Verdict};
pub use system::{Running, System};
pub use view::{Refused, View};
