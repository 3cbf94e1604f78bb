//! Telemetry of a call to a peer: its span, its metrics and its `traceparent`. Retries are part of the call.

use http::{Request, Response};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tracing::{Instrument as _, Span};

use super::completion::{self, ObservedBody, Observer};
use super::metrics::RpcMetrics;
use super::span;
use crate::call::Method;
use crate::call::{Context, write_trace_state};

/// Observes a call to `service`, made in the context `caller`.
///
/// `send` receives the request with the `traceparent` of this call, whether or not its span is exported, and `caller`
/// unchanged.
pub fn call<S, A>(
    metrics: RpcMetrics,
    service: &str,
    method: &'static Method,
    caller: Context,
    mut request: Request<Body>,
    send: S,
) -> impl Future<Output = Response<ObservedBody<Body, ClientCall>>> + use<S, A>
where
    S: FnOnce(Request<Body>, Context) -> A,
    A: Future<Output = Response<Body>>,
{
    let span = span::client(method, service);
    span::position(&span).unwrap_or_else(|| caller.trace.child()).write(request.headers_mut());
    write_trace_state(request.headers_mut(), caller.trace_state.as_ref());
    let answering = span.in_scope(|| send(request, caller)).instrument(span.clone());
    let call = ClientCall::begin(method, metrics, span);
    async move { completion::observe(answering.await, call) }
}

/// A call in progress.
pub struct ClientCall {
    method: &'static Method,
    metrics: RpcMetrics,
    /// The exported span.
    span: Span,
    start: Instant,
    completed: bool,
}

impl ClientCall {
    fn begin(method: &'static Method, metrics: RpcMetrics, span: Span) -> Self {
        metrics.begin(method);
        Self { method, metrics, span, start: Instant::now(), completed: false }
    }
}

impl Observer for ClientCall {
    fn completed(&mut self, status: &Status) {
        if !std::mem::replace(&mut self.completed, true) {
            self.metrics.end(self.method, status.code(), self.start.elapsed());
            span::end_client(&self.span, status);
        }
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
    use futures_util::FutureExt as _;
    use opentelemetry::{KeyValue, Value};

    #[test]
    fn client_call_sends_its_own_span_and_ends_when_it_is_dropped() {
        let (recorded, guard) = Recorded::begin();
        let request = Request::builder().uri(format!("http://mesh/{GET}")).body(Body::empty()).unwrap();
        let mut sent = None;
        let answering = call(
            Metrics::new().client,
            "catalog",
            Methods::of(&[]).find(request.uri().path()),
            Context::default(),
            request,
            |request, _| {
                sent = Trace::from_headers(request.headers());
                std::future::pending()
            },
        );
        assert!(answering.boxed().now_or_never().is_none());
        drop(guard);
        let span = recorded.named(GET);
        assert_eq!(span.span_context.span_id(), sent.unwrap().span_id.into());
        let code = KeyValue::new("rpc.grpc.status_code", Value::I64(1));
        assert!(span.attributes.contains(&code), "not cancelled: {:?}", span.attributes);
    }
}
