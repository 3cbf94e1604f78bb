//! Logs, metrics and spans of calls.
//!
//! [`observe`] wraps each call that this process serves, and [`ClientCall`] is a call to a peer. Both record the status
//! that a call ended with, in the [`Edge`] of its caller, its callee and its method. [`Metrics`] holds them and the
//! other metrics. [`init`] starts logging and exporting; `line` names the call in its log lines.

mod agent;
mod buckets;
mod carrier_metrics;
mod client_call;
mod completion;
mod counters;
mod edge;
mod edge_table;
mod edges;
mod ends;
mod exposition;
mod follow_metrics;
mod issuer_metrics;
mod kept;
mod kept_settings;
mod line;
mod log_limit;
mod log_lines;
mod log_settings;
mod logs;
mod metrics;
mod names;
mod otlp;
mod otlp_settings;
mod peer_metrics;
mod process_metrics;
mod rpc_metrics;
mod server_call;
mod span;
#[cfg(test)]
mod span_tests;
mod tls_metrics;
mod unmet_metrics;

pub use agent::DASHBOARD;
pub(crate) use agent::{appended, of as agent};
pub use buckets::BUCKETS;
pub use carrier_metrics::{CarrierLag, CarrierMetrics};
pub use client_call::ClientCall;
pub use completion::Observer;
pub use counters::{CODES, Totals};
pub use edge::{Edge, Ended, Failure};
pub use edges::Edges;
pub use ends::{Ends, Measured};
pub use exposition::Exposition;
pub use follow_metrics::{FollowMetrics, Lag};
pub use kept::KeptCall;
pub use kept_settings::KeepCalls;
pub use log_limit::LogLimit;
pub use log_lines::{LogLine, LogLines, Tail};
pub use log_settings::{Log, LogFormat};
pub use logs::init;
pub use metrics::Metrics;
pub use otlp::Exporter;
pub use otlp_settings::Otlp;
pub use peer_metrics::{EndpointCounts, EndpointMetrics, PeerMetrics};
pub use server_call::observe;
pub use span::{FAULTS, below, code_text, contacted, link, position, repeated};
pub use tls_metrics::{Side, TlsMetrics};
