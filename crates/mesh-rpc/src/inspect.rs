//! The inspect API: what this process does right now, for a dashboard.
//!
//! [`Inspect`] serves it. `watch` is the stream of what changes, `logs` that of the log, and `wire` has the conversions.
//! [`Unmet`] has what the gate of releases has found.
//!
//! Guarantees: it reads what telemetry counts anyway. Without a reader it costs nothing.
//!
//! See: proto/mesh/inspect/v1/inspect.proto

mod api;
mod logs;
mod unmet;
mod watch;
mod wire;

pub use api::{CONTRACT, Inspect};
pub use unmet::Unmet;
pub use wire::settings;
