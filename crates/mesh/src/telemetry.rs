//! What a process says about itself: logs to standard error, and for every RPC a span and its rate, errors and
//! duration.

mod metrics;
mod peers;
mod rpc;

use std::io::IsTerminal as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

pub(crate) use metrics::Metrics;
pub(crate) use peers::{EndpointMetrics, PeerMetrics};
pub(crate) use rpc::observe;

use crate::config::{Log, LogFormat};

/// Begins to log; once a process.
pub(crate) fn init(log: &Log) -> Result<(), TryInitError> {
    let terminal = std::io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Pretty => lines.with_ansi(terminal).compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(log.level.clone())).try_init()
}
