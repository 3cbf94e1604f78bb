//! One span and one measurement for every RPC, from its first header to its last trailer.
//!
//! An RPC has ended when its body has: a stream that fails after an hour failed, although its head said OK. A call whose
//! client left before the end is counted as cancelled, by the drop of what was watching it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::{Instrument as _, Span};

use super::metrics::{Metrics, code_name};
use crate::context::Trace;
use crate::contract::{self, Method};
use crate::handler::{Handler, handler};

/// Observes every call that comes through.
pub(crate) fn observe(next: Handler, metrics: Metrics) -> Handler {
    handler(move |mut request| {
        let method = contract::method(request.uri().path());
        let trace = Trace::from_headers(request.headers()).child();
        let span = tracing::info_span!(
            "rpc",
            rpc.service = method.service,
            rpc.method = method.name,
            trace_id = %trace.trace_id(),
        );
        request.extensions_mut().insert(trace);

        let mut rpc = Rpc::begin(method, metrics.clone(), span.clone());
        let answering = span.in_scope(|| next(request)).instrument(span);
        async move {
            let response = answering.await;
            // A call that fails before its first message has its status in the head; any other in the trailers.
            if let Some(status) = Status::from_header_map(response.headers()) {
                rpc.end(response.extensions().get().unwrap_or(&status));
            }
            response.map(|body| Body::new(Observed { body, rpc }))
        }
    })
}

/// One RPC under way.
struct Rpc {
    method: &'static Method,
    metrics: Metrics,
    span: Span,
    start: Instant,
    ended: bool,
}

impl Rpc {
    fn begin(method: &'static Method, metrics: Metrics, span: Span) -> Self {
        metrics.begin(method);
        Self { method, metrics, span, start: Instant::now(), ended: false }
    }

    fn end(&mut self, status: &Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let took = self.start.elapsed();
        self.metrics.end(self.method, status.code(), took);
        let code = code_name(status.code());
        let _entered = self.span.enter();
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

impl Drop for Rpc {
    fn drop(&mut self) {
        if !self.ended {
            self.end(&Status::cancelled("the caller left"));
        }
    }
}

/// A body whose end is the end of its RPC.
struct Observed {
    body: Body,
    rpc: Rpc,
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = this.rpc.span.in_scope(|| Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    this.rpc.end(&status);
                }
            }
            Poll::Ready(Some(Err(status))) => this.rpc.end(status),
            Poll::Ready(None) => this.rpc.end(&Status::unknown("the body ended without a status")),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
