//! Telemetry of a call to a peer: its span, its metrics and its `traceparent`. Retries are part of the call.

use std::num::NonZeroU64;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::time::Instant;
use tonic::Status;
use tracing::Span;

use super::completion::{self, ObservedBody, Observer};
use super::edge::{Edge, Ended};
use super::span;
use crate::call::{Context, Trace, write_trace_state};

/// A call in progress.
pub struct ClientCall {
    edge: &'static Edge,
    /// Its own position.
    trace: Trace,
    /// The span of the call that makes it.
    parent: Option<NonZeroU64>,
    attempts: u16,
    /// The exported span.
    span: Span,
    /// The code of an answer of HTTP.
    answered: Option<StatusCode>,
    start: Instant,
    completed: bool,
}

impl ClientCall {
    /// Begins a call in the context `caller`, and writes its `traceparent`, whether or not its span is exported.
    pub fn begin<B>(edge: &'static Edge, caller: &Context, request: &mut Request<B>) -> Self {
        let span = span::client(edge.ends.method, edge.ends.callee, request);
        let headers = request.headers_mut();
        let trace = span::position(&span).unwrap_or_else(|| caller.trace.child());
        trace.write(headers);
        write_trace_state(headers, caller.trace_state.as_ref());
        // Outside of a call, the trace of the context has no span.
        let parent = caller.method.and(NonZeroU64::new(caller.trace.span_id));
        edge.begin();
        let (answered, start, completed) = (None, Instant::now(), false);
        Self { edge, trace, parent, attempts: 1, span, answered, start, completed }
    }

    /// Notes the number of attempts at the call.
    pub fn attempted(&mut self, attempts: u16) {
        self.attempts = attempts;
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
            let Self { edge, trace, parent, attempts, .. } = *self;
            edge.end(&Ended { status, took: self.start.elapsed(), trace, parent, attempts });
            span::end_client(&self.span, edge.ends.method, status, self.answered);
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
        let metrics = Metrics::new();
        let edge = metrics.edges.made("artwork", "catalog", method, false);
        drop(ClientCall::begin(edge, &Context::default(), &mut sent));
        drop(guard);
        let span = recorded.named(GET);
        assert_eq!(span.span_context.span_id(), Trace::from_headers(sent.headers()).unwrap().span_id.into());
        let code = KeyValue::new("rpc.response.status_code", "CANCELLED");
        assert!(span.attributes.contains(&code), "not cancelled: {:?}", span.attributes);
        let [kept] = metrics.edges.kept(2, None, true).0[..] else { panic!("not kept once") };
        assert_eq!((kept.code, kept.attempts, kept.parent), (tonic::Code::Cancelled, 1, None));
        assert_eq!(kept.span, u64::from_be_bytes(span.span_context.span_id().to_bytes()));
    }
}
