//! The two spans of a call as a collector sees them: the client's, and below it the server's.
//!
//! They are not the spans of the log. They have a target of their own, and a level that nobody asks for but the layer
//! that exports: where there is none, making one is a look at a flag, and nothing is allocated. Names and attributes
//! are those of OpenTelemetry's [conventions for RPC](https://opentelemetry.io/docs/specs/semconv/rpc/grpc/).

use opentelemetry::trace::{
    SpanContext, SpanId, Status as SpanStatus, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use tonic::{Code, Status};
use tracing::{Level, Span, span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::call::Method;
use crate::call::Trace;

pub(super) const TARGET: &str = "mesh::span";

/// The span of a call that is served, below its caller's if that said where it is.
pub(super) fn server(method: &Method, caller: Option<Trace>) -> Span {
    // Health is asked for every few seconds, and reflection by tools: nobody looks for them in a trace.
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
    if let Some(caller) = caller.filter(|_| !span.is_disabled()) {
        let caller = opentelemetry::Context::new().with_remote_span_context(SpanContext::new(
            TraceId::from(caller.trace_id),
            SpanId::from(caller.span_id),
            if caller.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
            true,
            TraceState::NONE,
        ));
        // Fails where nothing is exported, or once the span is asked where it is.
        let _ = span.set_parent(caller);
    }
    span
}

/// The span of a call to `service`, below whatever the caller is doing.
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

/// Where a span is in its trace; `None` if it is not exported.
pub(super) fn place(span: &Span) -> Option<Trace> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let exported = context.span().span_context().clone();
    exported.is_valid().then(|| Trace {
        trace_id: u128::from_be_bytes(exported.trace_id().to_bytes()),
        span_id: u64::from_be_bytes(exported.span_id().to_bytes()),
        sampled: exported.is_sampled(),
    })
}

/// Says how the call of a server's span ended. What is wrong with the request is no failure of the server.
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

/// Says how the call of a client's span ended: it failed, or it did not.
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::call::Methods;
    use crate::telemetry::otlp::Exporter;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use tracing::Subscriber;
    use tracing::subscriber::DefaultGuard;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Reports to a subscriber until it is dropped, and to no other meanwhile: what nobody wants is known once for a
    /// whole process, and a process has one subscriber.
    pub(in crate::telemetry) struct Reporting {
        _here: DefaultGuard,
        _alone: MutexGuard<'static, ()>,
    }

    fn report_to(subscriber: impl Subscriber + Send + Sync + 'static) -> Reporting {
        static ONE: Mutex<()> = Mutex::new(());
        let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        Reporting { _here: tracing::subscriber::set_default(subscriber), _alone }
    }

    /// What was exported.
    #[derive(Clone, Debug, Default)]
    pub(in crate::telemetry) struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    impl Kept {
        /// Exports what this thread does, until the guard is dropped.
        pub(in crate::telemetry) fn begin() -> (Self, Reporting) {
            let kept = Self::default();
            let sampler = Sampler::parent_based(Sampler::AlwaysOn);
            let provider =
                SdkTracerProvider::builder().with_simple_exporter(kept.clone()).with_sampler(sampler).build();
            let subscriber = tracing_subscriber::registry().with(Exporter::by(provider).layer());
            (kept, report_to(subscriber))
        }

        /// The only span of this name.
        pub(in crate::telemetry) fn named(&self, name: &str) -> SpanData {
            let spans = self.0.lock().unwrap();
            let mut named = spans.iter().filter(|span| span.name == name);
            let span = named.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}")).clone();
            assert!(named.next().is_none(), "more than one {name}");
            span
        }
    }

    pub(in crate::telemetry) const ASKED: &str = "google.longrunning.Operations/GetOperation";
    const SERVED: &str = "google.longrunning.Operations/CancelOperation";

    fn method(name: &str) -> &'static Method {
        Methods::of(&[]).find(&format!("/{name}"))
    }

    #[test]
    fn where_nothing_is_exported_there_is_nothing() {
        let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
        let log = tracing_subscriber::Layer::with_filter(log, tracing_subscriber::filter::LevelFilter::DEBUG);
        let nowhere = None::<Exporter>.as_ref().map(Exporter::layer);
        let _guard = report_to(tracing_subscriber::registry().with(nowhere).with(log));
        assert!(!tracing::debug_span!("of the log").is_disabled());
        let (server, client) = (server(method(ASKED), None), client(method(ASKED), "catalog"));
        assert!(server.is_disabled() && client.is_disabled());
        assert_eq!(place(&server), None);
    }

    #[test]
    fn a_call_is_below_what_its_caller_does_and_above_its_peer() {
        let (kept, _guard) = Kept::begin();
        let caller = Trace::begin();
        let served = server(method(SERVED), Some(caller));
        served.in_scope(|| {
            // What the log says of the same call is no span of its own.
            tracing::info_span!(target: crate::telemetry::server_call::SPAN_TARGET, "rpc").in_scope(|| {
                tracing::info_span!("a service's own").in_scope(|| {
                    let called = client(method(ASKED), "catalog");
                    let asked = called.in_scope(|| server(method("grpc.health.v1.Health/Check"), place(&called)));
                    assert!(asked.is_disabled(), "health is of no interest");
                });
            });
        });
        drop(served);
        let (served, own, called) = (kept.named(SERVED), kept.named("a service's own"), kept.named(ASKED));
        assert_eq!(served.parent_span_id, SpanId::from(caller.span_id));
        assert_eq!(own.parent_span_id, served.span_context.span_id());
        assert_eq!(called.parent_span_id, own.span_context.span_id());
        assert_eq!(called.span_context.trace_id(), TraceId::from(caller.trace_id));
        assert_eq!(kept.0.lock().unwrap().len(), 3);
    }

    #[test]
    fn a_trace_that_is_not_sampled_goes_on_and_is_not_exported() {
        let (kept, _guard) = Kept::begin();
        let caller = Trace { sampled: false, ..Trace::begin() };
        let served = server(method(SERVED), Some(caller));
        let here = place(&served).unwrap();
        assert_eq!((here.trace_id, here.sampled), (caller.trace_id, false));
        assert_ne!(here.span_id, caller.span_id);
        let called = served.in_scope(|| place(&client(method(ASKED), "catalog")).unwrap());
        assert_eq!((called.trace_id, called.sampled), (caller.trace_id, false));
        drop(served);
        assert!(kept.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_trace_that_begins_here_has_a_root() {
        let (kept, _guard) = Kept::begin();
        // Whatever else this thread is doing: a call from the network is not below it.
        tracing::info_span!("something else").in_scope(|| drop(server(method(ASKED), None)));
        assert_eq!(kept.named(ASKED).parent_span_id, SpanId::INVALID);
    }

    #[test]
    fn what_is_wrong_with_a_request_is_no_failure_of_its_server() {
        for (code, by_server) in [(Code::NotFound, false), (Code::Unavailable, true), (Code::Ok, false)] {
            let (kept, _guard) = Kept::begin();
            let status = Status::new(code, "why");
            end_server(&server(method(SERVED), None), &status);
            end_client(&client(method(ASKED), "catalog"), &status);
            let failed = |name: &str| kept.named(name).status == SpanStatus::error("why");
            assert_eq!((failed(SERVED), failed(ASKED)), (by_server, code != Code::Ok), "{code:?}");
        }
    }
}
