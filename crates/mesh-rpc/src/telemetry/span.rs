//! The exported spans of a call: the client's span, and the server's span below it.
//!
//! They have a target and a level of their own, which only the exporting layer enables. Without an exporter, a span
//! costs a check of a flag and allocates nothing.
//!
//! Guarantees: names, attributes and status are those of OpenTelemetry's conventions
//! [for gRPC](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/) and
//! [for HTTP](https://opentelemetry.io/docs/specs/semconv/http/http-spans/), of the version in [`SCHEMA`]. The span of a call
//! to a peer covers all attempts, and has an event for each attempt that was repeated.
//!
//! See: decision 0010.

use http::uri::Authority;
use http::{Request, StatusCode, Uri};
use opentelemetry::KeyValue;
use opentelemetry::trace::{
    SpanContext, SpanId, Status as SpanStatus, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tonic::{Code, Status};
use tracing::{Level, Span, span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::call::{Call, Method, Protocol, Trace};

pub(super) const TARGET: &str = "mesh::span";
/// The version of the conventions, which a collector may translate into another.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.44.0";
/// The name of the spans of calls to peers, before they are exported.
const CLIENT: &str = "client";
/// A method, or an error, that no list has.
const OTHER: &str = "_OTHER";
/// The longest name of a method that no contract has. It comes from outside.
const MAX_UNKNOWN: usize = 256;

/// The span of a served call. Its parent is the caller's span, if the request names one.
pub(super) fn server<B>(call: &Call<B>) -> Span {
    let Call { method, request, connection, .. } = call;
    // Health checks arrive every few seconds, and reflection serves tools: both would clutter the traces.
    if method.service.starts_with("grpc.") {
        return Span::none();
    }
    let named = request.uri().authority();
    // In memory, the name of the service is all that there is.
    let address = named.map(host).or(call.called());
    let port = named.and_then(Authority::port_u16).map(i64::from);
    let client = connection.as_ref().and_then(|connection| connection.client());
    let (peer, peer_port) =
        (client.map(|client| tracing::field::display(client.ip())), client.map(|it| i64::from(it.port())));
    let span = match method.protocol {
        Protocol::Grpc => span!(
            target: TARGET,
            parent: None,
            Level::TRACE,
            "server",
            otel.kind = "server",
            otel.name = name(method),
            rpc.system.name = "grpc",
            rpc.method = rpc_method(method),
            rpc.method_original = original(method, request.uri()),
            server.address = address,
            server.port = port,
            network.peer.address = peer,
            network.peer.port = peer_port,
        ),
        Protocol::Http => span!(
            target: TARGET,
            parent: None,
            Level::TRACE,
            "server",
            otel.kind = "server",
            otel.name = http_name(request),
            http.request.method = http_method(request),
            http.request.method_original = http_original(request),
            url.scheme = "http",
            // Without the query: an app may put a secret there.
            url.path = request.uri().path(),
            server.address = address,
            server.port = port,
            network.peer.address = peer,
            network.peer.port = peer_port,
        ),
    };
    if !span.is_disabled()
        && let Some(caller) = Trace::from_headers(request.headers())
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

/// Runs a function whose spans stand below a position in the trace of another process. For a process that passes calls
/// on and has no span of its own.
pub fn below<T>(caller: Trace, work: impl FnOnce() -> T) -> T {
    let _attached = opentelemetry::Context::new().with_remote_span_context(remote(caller)).attach();
    work()
}

fn remote(trace: Trace) -> SpanContext {
    let flags = if trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(TraceId::from(trace.trace_id), SpanId::from(trace.span_id), flags, true, TraceState::NONE)
}

/// The span of a call to `service`. Its parent is the current span.
pub(super) fn client<B>(method: &Method, service: &str, request: &Request<B>) -> Span {
    match method.protocol {
        Protocol::Grpc => span!(
            target: TARGET,
            Level::TRACE,
            CLIENT,
            otel.kind = "client",
            otel.name = name(method),
            rpc.system.name = "grpc",
            rpc.method = rpc_method(method),
            rpc.method_original = original(method, request.uri()),
            server.address = service,
        ),
        Protocol::Http => span!(
            target: TARGET,
            Level::TRACE,
            CLIENT,
            otel.kind = "client",
            otel.name = http_name(request),
            http.request.method = http_method(request),
            http.request.method_original = http_original(request),
            url.full = format_args!("http://{service}{}", request.uri().path()),
            server.address = service,
            // The instance has another, and the name of the service has none.
            server.port = 80_i64,
        ),
    }
}

/// Notes an attempt at the current call that is repeated, with its error.
pub fn repeated(endpoint: &Authority, error: &'static str) {
    let Some(span) = current_client() else { return };
    let mut attributes = vec![KeyValue::new("error.type", error)];
    attributes.extend(peer(endpoint));
    span.add_event("attempt failed", attributes);
}

/// Notes the endpoint of the last attempt at the current call.
pub fn contacted(endpoint: &Authority) {
    let Some(span) = current_client() else { return };
    peer(endpoint).into_iter().for_each(|attribute| span.set_attribute(attribute.key, attribute.value));
}

/// The span of the call to a peer in which this runs.
fn current_client() -> Option<Span> {
    if !tracing::enabled!(target: TARGET, Level::TRACE) {
        return None;
    }
    let span = Span::current();
    let is_client = span.metadata().is_some_and(|it| it.target() == TARGET && it.name() == CLIENT);
    is_client.then_some(span)
}

fn peer(endpoint: &Authority) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new("network.peer.address", host(endpoint).to_owned())];
    attributes.extend(endpoint.port_u16().map(|port| KeyValue::new("network.peer.port", i64::from(port))));
    attributes
}

/// The host, without the brackets of IPv6.
fn host(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

/// `package.Service/Method`. What no contract has is named by its system: a client must not create names.
fn name(method: &Method) -> impl tracing::Value + use<> {
    let name = if method.is_known() { full(method) } else { "grpc".to_owned() };
    tracing::field::display(name)
}

fn rpc_method(method: &Method) -> impl tracing::Value + use<> {
    tracing::field::display(if method.is_known() { full(method) } else { OTHER.to_owned() })
}

fn full(method: &Method) -> String {
    format!("{}/{}", method.service, method.name)
}

/// The method that the client has named, if no contract has it.
fn original<'u>(method: &Method, uri: &'u Uri) -> Option<&'u str> {
    let named = uri.path().trim_start_matches('/');
    // A path is ASCII.
    (!method.is_known()).then(|| named.get(..MAX_UNKNOWN).unwrap_or(named))
}

fn http_method<B>(request: &Request<B>) -> &str {
    let method = request.method().as_str();
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    if known.contains(&method) { method } else { OTHER }
}

fn http_name<B>(request: &Request<B>) -> &str {
    let method = http_method(request);
    if method == OTHER { "HTTP" } else { method }
}

fn http_original<B>(request: &Request<B>) -> Option<&str> {
    (http_method(request) == OTHER).then(|| request.method().as_str())
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

/// The codes of which the callee is the cause. Alerts (`deploy/prometheus`, `deploy/grafana`) count these, the
/// dashboard these and RESOURCE_EXHAUSTED, which alerts count as calls refused for overload.
pub const FAULTS: [Code; 5] =
    [Code::Unknown, Code::DeadlineExceeded, Code::Internal, Code::Unavailable, Code::DataLoss];

/// Records the end of a served call, with the code of its answer in HTTP. An invalid request is no error of the server.
/// [OpenTelemetry](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/) adds UNIMPLEMENTED to the faults.
pub(super) fn end_server(span: &Span, method: &Method, status: &Status, answered: Option<StatusCode>) {
    let failed = FAULTS.contains(&status.code()) || status.code() == Code::Unimplemented;
    let failed = answered.map_or(failed, |code| code.is_server_error());
    end(span, method, status, answered, failed);
}

/// Records the end of a call to a peer. Every code but OK is an error.
pub(super) fn end_client(span: &Span, method: &Method, status: &Status, answered: Option<StatusCode>) {
    end(span, method, status, answered, status.code() != Code::Ok);
}

fn end(span: &Span, method: &Method, status: &Status, answered: Option<StatusCode>, failed: bool) {
    if span.is_disabled() {
        return;
    }
    if method.protocol == Protocol::Grpc {
        span.set_attribute("rpc.response.status_code", code_text(status.code()));
    }
    if let Some(code) = answered {
        span.set_attribute("http.response.status_code", i64::from(code.as_u16()));
    }
    if failed {
        let error = answered.filter(|code| code.as_u16() >= 400).map(|code| code.as_u16().to_string());
        span.set_attribute("error.type", error.unwrap_or_else(|| code_text(status.code()).to_owned()));
        span.set_status(SpanStatus::error(status.message().to_owned()));
    }
}

/// The name of a code, as [gRPC's list](https://grpc.github.io/grpc/core/md_doc_statuscodes.html) has it.
pub fn code_text(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
