//! Spans to a collector, by [OTLP](https://opentelemetry.io/docs/specs/otlp/) over gRPC.
//!
//! A span that has ended is put into a bounded queue, and a thread of its own sends what is there every second: nothing
//! a call does waits for the collector. When the queue is full spans are dropped, which is said once, and how many it
//! were at the end. That is the OpenTelemetry SDK's work; here it is put together, and told to say of a collector that
//! cannot be reached what people want to read: once that it is away, and once that it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanData, SpanExporter,
};
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Layer, Registry};

use super::otlp_settings::Otlp;
use super::{server_call, span};

/// How often what has ended is sent.
const EVERY: Duration = Duration::from_secs(1);
/// How many spans wait to be sent, at most: some megabytes of them.
const QUEUE: usize = 8192;
/// How long a collector may take for what it is sent.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a process that ends waits for the last of it.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Where the spans of this process go.
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// To the collector at an endpoint, in the name of `process`. Within a runtime, which carries the connection.
    pub fn to(otlp: &Otlp, process: &'static str) -> anyhow::Result<Self> {
        let exporter = OtlpExporter::builder().with_tonic().with_endpoint(&otlp.endpoint).with_timeout(ANSWER_WITHIN);
        let exporter = exporter.build().context("cannot export spans")?;
        let exporter = SaysOnce { exporter, endpoint: otlp.endpoint.clone(), away: AtomicBool::new(false) };
        let batches = BatchConfigBuilder::default().with_scheduled_delay(EVERY).with_max_queue_size(QUEUE).build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(batches).build())
            .with_resource(Resource::builder().with_service_name(process).build())
            .with_sampler(Sampler::parent_based(Sampler::TraceIdRatioBased(otlp.ratio)))
            .build();
        Ok(Self(provider))
    }

    #[cfg(test)]
    pub(super) fn by(provider: SdkTracerProvider) -> Self {
        Self(provider)
    }

    /// Takes the spans of calls, and whatever else is at least `info`; the spans of the log are the same calls again.
    pub(super) fn layer(&self) -> impl Layer<Registry> + Send + Sync + use<> {
        let wanted = Targets::new()
            .with_default(Level::INFO)
            .with_target(span::TARGET, Level::TRACE)
            .with_target(server_call::SPAN_TARGET, LevelFilter::OFF);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("mesh"))
            // The code a call ends with decides whether it failed, not what was logged on the way.
            .with_error_events_to_status(false)
            .with_context_activation(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(wanted)
    }

    /// Sends what is left, for no longer than a second.
    pub async fn flush(self) {
        // It blocks, and what it waits for needs the runtime. Whether it arrived has been said if it matters.
        let _ = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH_WITHIN)).await;
    }
}

/// An exporter that says of its collector when it goes and when it comes, not with every batch.
#[derive(Debug)]
struct SaysOnce<E> {
    exporter: E,
    endpoint: String,
    away: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for SaysOnce<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let endpoint = &self.endpoint;
        match self.exporter.export(batch).await {
            Ok(()) if self.away.swap(false, Ordering::Relaxed) => tracing::info!(endpoint, "spans are exported again"),
            Err(error) if !self.away.swap(true, Ordering::Relaxed) => {
                tracing::warn!(endpoint, %error, "spans cannot be exported and are lost; it is tried again and again");
            }
            _ => {}
        }
        // What the SDK hears of it, it says with every batch.
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
