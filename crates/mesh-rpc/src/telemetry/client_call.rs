//! The client's side of a call to a peer: its place in the trace, its span, and its measurement. A retry is part of it.

use http::{Request, Response};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tracing::{Instrument as _, Span};

use super::metrics::Rpcs;
use super::{ended, span};
use crate::call::Method;
use crate::call::{Context, write_trace_state};

/// Makes a call to `service` on behalf of the call that `caller` is the context of.
///
/// What `send` is given carries the call's own place in its `traceparent`, exported or not, so that the peer's span is
/// below this one. It is given `caller` back, for the rest of what travels with a call.
pub fn call<S, A>(
    metrics: Rpcs,
    service: &str,
    method: &'static Method,
    caller: Context,
    mut request: Request<Body>,
    send: S,
) -> impl Future<Output = Response<Body>> + use<S, A>
where
    S: FnOnce(Request<Body>, Context) -> A,
    A: Future<Output = Response<Body>>,
{
    let span = span::client(method, service);
    span::place(&span).unwrap_or_else(|| caller.trace.child()).write(request.headers_mut());
    write_trace_state(request.headers_mut(), caller.trace_state.as_ref());
    let answering = span.in_scope(|| send(request, caller)).instrument(span.clone());
    let call = Call::begin(method, metrics, span);
    async move { ended::watch(answering.await, call) }
}

/// A call under way.
struct Call {
    method: &'static Method,
    metrics: Rpcs,
    /// For a collector.
    span: Span,
    start: Instant,
    ended: bool,
}

impl Call {
    fn begin(method: &'static Method, metrics: Rpcs, span: Span) -> Self {
        metrics.begin(method);
        Self { method, metrics, span, start: Instant::now(), ended: false }
    }
}

impl ended::End for Call {
    fn end(&mut self, status: &Status) {
        if !std::mem::replace(&mut self.ended, true) {
            self.metrics.end(self.method, status.code(), self.start.elapsed());
            span::end_client(&self.span, status);
        }
    }

    fn within<T>(&self, something: impl FnOnce() -> T) -> T {
        self.span.in_scope(something)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        ended::End::end(self, &Status::cancelled("the caller left"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Methods;
    use crate::call::Trace;
    use crate::telemetry::Metrics;
    use crate::telemetry::span::tests::{ASKED, Kept};
    use futures_util::FutureExt as _;
    use opentelemetry::{KeyValue, Value};

    #[test]
    fn what_is_sent_carries_the_place_of_its_own_span_and_a_caller_that_leaves_ends_it() {
        let (kept, guard) = Kept::begin();
        let request = Request::builder().uri(format!("http://mesh/{ASKED}")).body(Body::empty()).unwrap();
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
        let span = kept.named(ASKED);
        assert_eq!(span.span_context.span_id(), sent.unwrap().span_id.into());
        let code = KeyValue::new("rpc.grpc.status_code", Value::I64(1));
        assert!(span.attributes.contains(&code), "cancelled: {:?}", span.attributes);
    }
}
