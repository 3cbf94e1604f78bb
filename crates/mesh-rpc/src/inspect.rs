//! The inspect API: what this process does right now, for a dashboard.
//!
//! [`Inspect`] serves it. `watch` is the stream of what changes, `logs` that of the log, and `wire` has the
//! conversions.
//!
//! Guarantees: it reads what telemetry has anyway: counters, the calls that are kept, and the last lines of the log,
//! each of which is formatted a second time for it. A reader adds the cost of its own messages.
//!
//! See: proto/mesh/inspect/v1/inspect.proto

mod api;
mod logs;
mod watch;
mod wire;

pub use api::{CONTRACT, Inspect};
pub use wire::settings;
