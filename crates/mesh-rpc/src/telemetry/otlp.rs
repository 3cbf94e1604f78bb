//! Exports spans to a collector, by [OTLP](https://opentelemetry.io/docs/specs/otlp/) over gRPC.
//!
//! The OpenTelemetry SDK puts ended spans into a bounded queue, and a thread of its own sends them in batches.
//!
//! Guarantees:
//! - No call waits for the collector. The SDK drops spans when the queue is full, and logs that.
//! - The log reports once that the collector is unreachable, and once that it is back.
//!
//! See: decision 0009.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{InstrumentationScope, Key};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Layer, Registry};

use super::otlp_settings::Otlp;
use super::span;

/// The interval between two batches.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The largest number of spans in the queue: a few megabytes.
const QUEUE_SIZE: usize = 8192;
/// The limit for sending one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit for sending the queue when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Exports the spans of this process.
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Exports to the collector at `otlp.endpoint`, as service `process`. Must be called within a tokio runtime, which
    /// carries the connection.
    ///
    /// # Errors
    ///
    /// The endpoint is invalid.
    pub fn new(otlp: &Otlp, process: &'static str) -> anyhow::Result<Self> {
        let exporter = OtlpExporter::builder().with_tonic().with_endpoint(&otlp.endpoint).with_timeout(EXPORT_TIMEOUT);
        let exporter = exporter.build().context("cannot export spans")?;
        let exporter =
            ReportOnChange { exporter, endpoint: otlp.endpoint.clone(), unreachable: AtomicBool::new(false) };
        let batches =
            BatchConfigBuilder::default().with_scheduled_delay(BATCH_INTERVAL).with_max_queue_size(QUEUE_SIZE).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_resource(resource(process))
            .with_sampler(Sampler::parent_based(Sampler::TraceIdRatioBased(otlp.ratio)))
            .build();
        Ok(Self(provider))
    }

    #[cfg(test)]
    pub(super) fn with_provider(provider: SdkTracerProvider) -> Self {
        Self(provider)
    }

    /// Selects the spans of calls, and other spans from level `info`.
    pub(super) fn layer(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        let selected = Targets::new().with_default(Level::INFO).with_target(span::TARGET, Level::TRACE);
        let scope = InstrumentationScope::builder("mesh").with_schema_url(span::SCHEMA).build();
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer_with_scope(scope))
            // The status code of a call decides whether it failed, not its log events.
            .with_error_events_to_status(false)
            .with_context_activation(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(selected)
    }

    /// Sends the queued spans, for at most one second.
    pub async fn flush(self) {
        // The shutdown blocks, and the connection needs the runtime meanwhile. `ReportOnChange` logs a failed export.
        let _ = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH_TIMEOUT)).await;
    }
}

/// What a collector knows of the process: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say it, and else its name.
fn resource(process: &'static str) -> Resource {
    let given = Resource::builder().build();
    let name = given.get(&Key::new("service.name")).map(|name| name.to_string());
    // The SDK names a process that has no name by its executable.
    if name.is_some_and(|name| !name.starts_with("unknown_service")) {
        return given;
    }
    Resource::builder().with_service_name(process).build()
}

/// An exporter that logs when the collector becomes unreachable and when it is back, not for every batch.
#[derive(Debug)]
struct ReportOnChange<E> {
    exporter: E,
    endpoint: String,
    unreachable: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for ReportOnChange<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let endpoint = &self.endpoint;
        match self.exporter.export(batch).await {
            Ok(()) if self.unreachable.swap(false, Ordering::Relaxed) => {
                tracing::info!(endpoint, "spans are exported again")
            }
            Err(error) if !self.unreachable.swap(true, Ordering::Relaxed) => {
                tracing::warn!(endpoint, %error, "spans cannot be exported and are lost until the collector answers");
            }
            _ => {}
        }
        // The SDK would log an error for every batch.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
