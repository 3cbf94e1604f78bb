//! Starts the log on standard error, with the lines that are kept of it, and the export of spans.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use super::line::{JsonLine, PrettyLine};
use super::log_lines::{KeepLines, LogLines};
use super::log_settings::{Log, LogFormat};
use super::otlp::Exporter;
use super::otlp_settings::{Otlp, unused};

/// Starts the log and, if a collector is configured, the export of spans as service `process`. A process calls this
/// once, within a tokio runtime.
///
/// # Errors
///
/// The collector's address is invalid, or a subscriber is already set.
pub fn init(log: &Log, otlp: Option<&Otlp>, process: &'static str) -> anyhow::Result<Option<Exporter>> {
    let exporter = otlp.map(|otlp| Exporter::new(otlp, process)).transpose()?;
    let terminal = std::io::stderr().is_terminal();
    let format = log.format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Pretty => lines.with_ansi(terminal).event_format(PrettyLine::new(terminal)).boxed(),
        LogFormat::Json => lines.fmt_fields(JsonFields::new()).event_format(JsonLine::default()).boxed(),
    };
    let lines = lines.and_then(KeepLines(LogLines::of_process()));
    tracing_subscriber::registry()
        .with(exporter.as_ref().map(Exporter::layer))
        .with(lines.with_filter(log.filter()))
        .try_init()
        .context("cannot start the log")?;
    if exporter.is_none()
        && let Some(variable) = unused()
    {
        tracing::info!(
            variable,
            "no spans are exported: the variables of OpenTelemetry ask for none by gRPC without TLS"
        );
    }
    Ok(exporter)
}
