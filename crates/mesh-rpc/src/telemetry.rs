//! Logs, measurements and spans of calls.
//!
//! [`observe`] is around each call that is served, [`call`] around each call to a peer: both count it by the code that it
//! really ended with. [`Metrics`] holds the measurements, [`init`] begins to log and to export spans.

mod client_call;
mod ended;
mod log_settings;
mod logs;
mod metrics;
mod otlp;
mod otlp_settings;
mod peers;
mod server_call;
mod span;

pub use client_call::call;
pub use log_settings::{Log, LogFormat};
pub use logs::init;
pub use metrics::{Metrics, Rpcs};
pub use otlp::Exporter;
pub use otlp_settings::Otlp;
pub use peers::{EndpointMetrics, PeerMetrics};
pub use server_call::observe;
