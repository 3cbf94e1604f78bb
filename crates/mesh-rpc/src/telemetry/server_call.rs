//! Telemetry of a served call: its spans, its metrics and its log line, from the first header to the last trailer.
//!
//! A call whose client disconnects is recorded as cancelled.
//!
//! See: decision 0010.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{Instrument as _, Span};

use super::completion::{self, Observer};
use super::metrics::{RpcMetrics, code_name};
use super::span;
use crate::call::Method;
use crate::call::Trace;
use crate::call::{Handler, handler};

/// The target of the log's spans.
pub(super) const SPAN_TARGET: &str = "mesh::rpc";

/// Observes every call through `next`.
pub fn observe(next: Handler, metrics: RpcMetrics) -> Handler {
    let outages = Arc::new(Outages::default());
    handler(move |mut call| {
        let method = call.method;
        let caller = Trace::from_headers(call.request.headers());
        let exported = span::server(method, caller);
        let trace = span::position(&exported);
        let trace = trace.or_else(|| caller.map(Trace::child)).unwrap_or_else(Trace::begin);
        let span = tracing::info_span!(
            target: SPAN_TARGET,
            "rpc",
            rpc.service = method.service,
            rpc.method = method.name,
            trace_id = %trace.trace_id(),
        );
        call.request.extensions_mut().insert(trace);

        let observer = ServerCall::begin(method, metrics.clone(), Arc::clone(&outages), span.clone(), exported.clone());
        let answering = Observer::in_scope(&observer, || next(call)).instrument(exported).instrument(span);
        async move { completion::observe(answering.await, observer) }
    })
}

/// The methods whose last call met an unavailable database. An outage is logged once for each method.
#[derive(Default)]
struct Outages {
    any: AtomicBool,
    methods: Mutex<HashSet<(&'static str, &'static str)>>,
}

impl Outages {
    /// Whether this failure is the same outage as that of an earlier call.
    fn is_repeat(&self, method: &Method, status: &Status) -> bool {
        let outage = status.code() == Code::Unavailable
            && status.get_details_error_info().is_some_and(|info| info.reason == "DATABASE_UNAVAILABLE");
        if !outage {
            self.ends(method);
            return false;
        }
        let mut methods = self.methods();
        self.any.store(true, Ordering::Relaxed);
        !methods.insert((method.service, method.name))
    }

    fn ends(&self, method: &Method) {
        if self.any.load(Ordering::Relaxed) {
            let mut methods = self.methods();
            methods.remove(&(method.service, method.name));
            self.any.store(!methods.is_empty(), Ordering::Relaxed);
        }
    }

    fn methods(&self) -> MutexGuard<'_, HashSet<(&'static str, &'static str)>> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in progress.
struct ServerCall {
    method: &'static Method,
    metrics: RpcMetrics,
    outages: Arc<Outages>,
    /// The span of the log.
    span: Span,
    /// The exported span.
    exported: Span,
    start: Instant,
    completed: bool,
}

impl ServerCall {
    fn begin(method: &'static Method, metrics: RpcMetrics, outages: Arc<Outages>, span: Span, exported: Span) -> Self {
        metrics.begin(method);
        Self { method, metrics, outages, span, exported, start: Instant::now(), completed: false }
    }

    fn log(&self, status: &Status) {
        let (code, took) = (code_name(status.code()), self.start.elapsed());
        // A status with a cause hides that cause from the client: an operator has to see it.
        match (std::error::Error::source(status), status.code()) {
            (Some(cause), _) if self.outages.is_repeat(self.method, status) => {
                tracing::debug!(code, ?took, cause, "{}", status.message());
            }
            (Some(cause), _) => tracing::error!(code, ?took, cause, "{}", status.message()),
            (None, code_without_cause) => {
                self.outages.ends(self.method);
                match code_without_cause {
                    Code::Internal | Code::Unknown | Code::DataLoss => {
                        tracing::error!(code, ?took, "{}", status.message());
                    }
                    Code::Ok => tracing::debug!(code, ?took, "done"),
                    _ => tracing::debug!(code, ?took, "{}", status.message()),
                }
            }
        }
    }
}

impl Observer for ServerCall {
    fn completed(&mut self, status: &Status) {
        if std::mem::replace(&mut self.completed, true) {
            return;
        }
        self.metrics.end(self.method, status.code(), self.start.elapsed());
        span::end_server(&self.exported, status);
        self.in_scope(|| self.log(status));
    }

    fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.span.in_scope(|| self.exported.in_scope(work))
    }
}

impl Drop for ServerCall {
    fn drop(&mut self) {
        Observer::completed(self, &Status::cancelled("the caller cancelled the call"));
    }
}
