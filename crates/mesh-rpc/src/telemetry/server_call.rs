//! Telemetry of a served call: its spans, its metrics and its log line, from the first header to the last trailer.
//!
//! A call whose client disconnects is recorded as cancelled.
//!
//! See: decision 0010.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tracing::{Instrument as _, Level, Span};

use super::completion::{self, Observer};
use super::edge::{Edge, Ended};
use super::edges::Edges;
use super::rpc_metrics::code_name;
use super::span;
use crate::call::{Call, Context, Handler, Method, Trace, handler};

/// Observes every call through `next`.
pub fn observe<A, B>(next: impl Fn(Call) -> A + Send + Sync + 'static, edges: Edges) -> Handler
where
    A: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Status> + Send + Unpin + 'static,
{
    let outages = Arc::new(Outages::default());
    let next = Arc::new(next);
    handler(move |mut call: Call| {
        let (next, edge, outages) = (Arc::clone(&next), edges.served(&call), Arc::clone(&outages));
        async move {
            let exported = span::server(&call);
            if let Some(trace) = span::position(&exported) {
                call.context.trace = trace;
            }
            let observer = ServerCall::begin(edge, outages, call.context.trace, call.parent, exported.clone());
            let response = next(call).instrument(exported).await;
            completion::observe(response, observer).map(tonic::body::Body::new)
        }
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
    edge: &'static Edge,
    outages: Arc<Outages>,
    trace: Trace,
    /// The span of the caller.
    parent: Option<NonZeroU64>,
    /// The exported span.
    exported: Span,
    /// The code of an answer of HTTP.
    answered: Option<StatusCode>,
    start: Instant,
    completed: bool,
}

impl ServerCall {
    fn begin(
        edge: &'static Edge,
        outages: Arc<Outages>,
        trace: Trace,
        parent: Option<NonZeroU64>,
        exported: Span,
    ) -> Self {
        edge.begin();
        let (answered, start) = (None, Instant::now());
        Self { edge, outages, trace, parent, exported, answered, start, completed: false }
    }

    fn log(&self, status: &Status) {
        let cause = std::error::Error::source(status);
        // A status with a cause hides that cause from the client: an operator has to see it.
        let level = match (cause, status.code()) {
            (Some(_), _) if self.outages.is_repeat(self.edge.ends.method, status) => Level::DEBUG,
            (Some(_), _) => Level::ERROR,
            (None, code) => {
                self.outages.ends(self.edge.ends.method);
                let failed = matches!(code, Code::Internal | Code::Unknown | Code::DataLoss);
                if failed { Level::ERROR } else { Level::DEBUG }
            }
        };
        let (code, took) = (code_name(status.code()), self.start.elapsed());
        let message = if status.code() == Code::Ok { "done" } else { status.message() };
        if level == Level::ERROR {
            self.as_the_call(|| tracing::error!(code, ?took, cause, "{message}"));
        } else if tracing::enabled!(Level::DEBUG) {
            self.as_the_call(|| tracing::debug!(code, ?took, cause, "{message}"));
        }
    }

    /// Logs as the call, which has left its context by now.
    fn as_the_call(&self, log: impl FnOnce()) {
        Context { method: Some(self.edge.ends.method), trace: self.trace, ..Context::default() }.enter(log);
    }
}

impl Observer for ServerCall {
    fn completed(&mut self, status: &Status) {
        if std::mem::replace(&mut self.completed, true) {
            return;
        }
        let Self { edge, trace, parent, .. } = *self;
        edge.end(&Ended { status, took: self.start.elapsed(), trace, parent, attempts: 0 });
        span::end_server(&self.exported, edge.ends.method, status, self.answered);
        self.log(status);
    }

    fn answered(&mut self, code: StatusCode) {
        self.answered = Some(code);
    }

    fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.exported.in_scope(work)
    }
}

impl Drop for ServerCall {
    fn drop(&mut self) {
        Observer::completed(self, &Status::cancelled("the caller cancelled the call"));
    }
}
