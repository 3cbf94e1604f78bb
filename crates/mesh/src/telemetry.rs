//! What a process says about itself: logs to standard error, for every RPC a span and its rate, errors and duration, and
//! spans to a collector if one is configured.

mod call;
mod ended;
mod metrics;
mod otlp;
mod peers;
mod rpc;
mod span;

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

pub(crate) use call::call;
pub(crate) use metrics::Metrics;
pub(crate) use otlp::Exporter;
pub(crate) use peers::{EndpointMetrics, PeerMetrics};
pub(crate) use rpc::observe;

use crate::config::{Config, LogFormat};

/// Begins to log, and to export spans if there is somewhere to; once a process. Within a runtime.
pub(crate) fn init(config: &Config) -> anyhow::Result<Option<Exporter>> {
    let exporter = config.otlp.as_ref().map(|otlp| Exporter::to(otlp, config.process)).transpose()?;
    let terminal = std::io::stderr().is_terminal();
    let format = config.log.format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Pretty => lines.with_ansi(terminal).compact().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry()
        .with(exporter.as_ref().map(Exporter::layer))
        .with(lines.with_filter(config.log.level.clone()))
        .try_init()
        .context("cannot begin to log")?;
    Ok(exporter)
}
