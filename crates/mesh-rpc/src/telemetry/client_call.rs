//! Telemetry of a call to a peer: its span, its metrics and its `traceparent`. Retries are part of the call.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;
use tonic::Status;
use tracing::Span;

use super::completion::{self, ObservedBody, Observer};
use super::metrics::RpcMetrics;
use super::span;
use crate::call::Method;
use crate::call::{Context, write_trace_state};

/// A call in progress.
pub struct ClientCall {
    method: &'static Method,
    metrics: RpcMetrics,
    /// The exported span.
    span: Span,
    /// The code of an answer of HTTP.
    answered: Option<StatusCode>,
    start: Instant,
    completed: bool,
}

impl ClientCall {
    /// Begins a call to `service` in the context `caller`, and writes its `traceparent`, whether or not its span is
    /// exported.
    pub fn begin<B>(
        metrics: RpcMetrics,
        service: &str,
        method: &'static Method,
        caller: &Context,
        request: &mut Request<B>,
    ) -> Self {
        let span = span::client(method, service, request);
        let headers = request.headers_mut();
        span::position(&span).unwrap_or_else(|| caller.trace.child()).write(headers);
        write_trace_state(headers, caller.trace_state.as_ref());
        metrics.begin(method);
        Self { method, metrics, span, answered: None, start: Instant::now(), completed: false }
    }

    /// Ends the call with its response: now, or at the end of the body.
    pub fn respond<B>(self, response: Response<B>) -> Response<ObservedBody<B, Self>>
    where
        B: Body<Data = Bytes, Error = Status> + Send + Unpin + 'static,
    {
        completion::observe(response, self)
    }
}

impl Observer for ClientCall {
    fn completed(&mut self, status: &Status) {
        if !std::mem::replace(&mut self.completed, true) {
            self.metrics.end(self.method, status.code(), self.start.elapsed());
            span::end_client(&self.span, self.method, status, self.answered);
        }
    }

    fn answered(&mut self, code: StatusCode) {
        self.answered = Some(code);
    }

    fn in_scope<T>(&self, work: impl FnOnce() -> T) -> T {
        self.span.in_scope(work)
    }
}

impl Drop for ClientCall {
    fn drop(&mut self) {
        Observer::completed(self, &Status::cancelled("the caller cancelled the call"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::Metrics;
    use super::*;
    use crate::call::Methods;
    use crate::call::Trace;
    use crate::telemetry::span_tests::{GET, Recorded};
    use opentelemetry::KeyValue;

    #[test]
    fn client_call_sends_its_own_span_and_ends_when_it_is_dropped() {
        let (recorded, guard) = Recorded::begin();
        let (method, mut sent) = (Methods::of(&[]).find(&format!("/{GET}")), Request::new(()));
        drop(ClientCall::begin(Metrics::new().client, "catalog", method, &Context::default(), &mut sent));
        drop(guard);
        let span = recorded.named(GET);
        assert_eq!(span.span_context.span_id(), Trace::from_headers(sent.headers()).unwrap().span_id.into());
        let code = KeyValue::new("rpc.response.status_code", "CANCELLED");
        assert!(span.attributes.contains(&code), "not cancelled: {:?}", span.attributes);
    }
}
