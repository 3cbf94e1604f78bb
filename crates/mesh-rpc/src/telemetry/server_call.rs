//! One span and one measurement for every RPC that is served, from its first header to its last trailer.
//!
//! A call whose client left before the end is counted as cancelled, by the drop of what was watching it.

use tokio::time::Instant;
use tonic::{Code, Status};
use tracing::{Instrument as _, Span};

use super::metrics::{Rpcs, code_name};
use super::{ended, span};
use crate::call::Method;
use crate::call::Trace;
use crate::call::{Handler, handler};

/// What the spans of the log are known by.
pub(super) const SPAN_TARGET: &str = "mesh::rpc";

/// Observes every call that comes through.
pub fn observe(next: Handler, metrics: Rpcs) -> Handler {
    handler(move |mut call| {
        let method = call.method;
        let caller = Trace::from_headers(call.request.headers());
        let exported = span::server(method, caller);
        let trace = span::place(&exported);
        let trace = trace.or_else(|| caller.map(Trace::child)).unwrap_or_else(Trace::begin);
        let span = tracing::info_span!(
            target: SPAN_TARGET,
            "rpc",
            rpc.service = method.service,
            rpc.method = method.name,
            trace_id = %trace.trace_id(),
        );
        call.request.extensions_mut().insert(trace);

        let rpc = Rpc::begin(method, metrics.clone(), span.clone(), exported.clone());
        let answering = ended::End::within(&rpc, || next(call)).instrument(exported).instrument(span);
        async move { ended::watch(answering.await, rpc) }
    })
}

/// One RPC under way.
struct Rpc {
    method: &'static Method,
    metrics: Rpcs,
    /// For the log.
    span: Span,
    /// For a collector.
    exported: Span,
    start: Instant,
    ended: bool,
}

impl Rpc {
    fn begin(method: &'static Method, metrics: Rpcs, span: Span, exported: Span) -> Self {
        metrics.begin(method);
        Self { method, metrics, span, exported, start: Instant::now(), ended: false }
    }

    fn log(&self, status: &Status) {
        let (code, took) = (code_name(status.code()), self.start.elapsed());
        // A cause is what the client was not told, and what somebody has to look at.
        match (std::error::Error::source(status), status.code()) {
            (Some(cause), _) => tracing::error!(code, ?took, cause, "{}", status.message()),
            (None, Code::Internal | Code::Unknown | Code::DataLoss) => {
                tracing::error!(code, ?took, "{}", status.message());
            }
            (None, Code::Ok) => tracing::debug!(code, ?took, "done"),
            (None, _) => tracing::debug!(code, ?took, "{}", status.message()),
        }
    }
}

impl ended::End for Rpc {
    fn end(&mut self, status: &Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.metrics.end(self.method, status.code(), self.start.elapsed());
        span::end_server(&self.exported, status);
        self.within(|| self.log(status));
    }

    fn within<T>(&self, something: impl FnOnce() -> T) -> T {
        self.span.in_scope(|| self.exported.in_scope(something))
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        ended::End::end(self, &Status::cancelled("the caller left"));
    }
}
