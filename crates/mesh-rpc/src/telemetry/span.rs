//! The exported spans of a call: the client's span, and the server's span below it.
//!
//! They have a target and a level of their own, which only the exporting layer enables. Without an exporter, a span
//! costs a check of a flag and allocates nothing. Names and attributes follow OpenTelemetry's [conventions for
//! RPC](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/).
//!
//! See: decision 0010.

use http::HeaderMap;
use opentelemetry::trace::{
    SpanContext, SpanId, Status as SpanStatus, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tonic::{Code, Status};
use tracing::{Level, Span, span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::call::Method;
use crate::call::Trace;

pub(super) const TARGET: &str = "mesh::span";

/// The span of a served call. Its parent is the caller's span, if the request names one.
pub(super) fn server(method: &Method, headers: &HeaderMap) -> Span {
    // Health checks arrive every few seconds, and reflection serves tools: both would clutter the traces.
    if method.service.starts_with("grpc.") {
        return Span::none();
    }
    let span = span!(
        target: TARGET,
        parent: None,
        Level::TRACE,
        "server",
        otel.kind = "server",
        otel.name = format_args!("{}/{}", method.service, method.name),
        rpc.system = "grpc",
        rpc.service = method.service,
        rpc.method = method.name,
    );
    if !span.is_disabled()
        && let Some(caller) = Trace::from_headers(headers)
    {
        let caller = opentelemetry::Context::new().with_remote_span_context(remote(caller));
        // `set_parent` fails if nothing is exported.
        let _ = span.set_parent(caller);
    }
    span
}

/// Links a span to a position in another trace, such as that of the call which caused it and has ended.
pub fn link(span: &Span, cause: Trace) {
    // It does nothing if the span is not exported.
    span.add_link(remote(cause));
}

/// Runs a function whose spans stand below a position in the trace of another process. For a process that passes calls on
/// and has no span of its own.
pub fn below<T>(caller: Trace, work: impl FnOnce() -> T) -> T {
    let _attached = opentelemetry::Context::new().with_remote_span_context(remote(caller)).attach();
    work()
}

fn remote(trace: Trace) -> SpanContext {
    let flags = if trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(TraceId::from(trace.trace_id), SpanId::from(trace.span_id), flags, true, TraceState::NONE)
}

/// The span of a call to `service`. Its parent is the current span.
pub(super) fn client(method: &Method, service: &str) -> Span {
    span!(
        target: TARGET,
        Level::TRACE,
        "client",
        otel.kind = "client",
        otel.name = format_args!("{}/{}", method.service, method.name),
        rpc.system = "grpc",
        rpc.service = method.service,
        rpc.method = method.name,
        peer.service = service,
    )
}

/// The position of a span in its trace; `None` if the span is not exported.
pub fn position(span: &Span) -> Option<Trace> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let position = context.span().span_context().clone();
    position.is_valid().then(|| Trace {
        trace_id: u128::from_be_bytes(position.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(position.span_id().to_bytes()),
        sampled: position.is_sampled(),
    })
}

/// Records the status of a served call. An invalid request is no error of the server.
pub(super) fn end_server(span: &Span, status: &Status) {
    let failed = matches!(
        status.code(),
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    end(span, status, failed);
}

/// Records the status of a call to a peer. Every code but OK is an error.
pub(super) fn end_client(span: &Span, status: &Status) {
    end(span, status, status.code() != Code::Ok);
}

fn end(span: &Span, status: &Status, failed: bool) {
    if span.is_disabled() {
        return;
    }
    span.set_attribute("rpc.grpc.status_code", status.code() as i64);
    if failed {
        span.set_status(SpanStatus::error(status.message().to_owned()));
    }
}
