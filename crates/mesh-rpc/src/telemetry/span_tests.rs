//! Tests of the exported spans, and an exporter into memory for other tests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Request;
use opentelemetry::trace::{SpanId, Status as SpanStatus, TraceId};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::subscriber::DefaultGuard;
use tracing::{Span, Subscriber};
use tracing_subscriber::layer::SubscriberExt as _;

use super::otlp::Exporter;
use super::span::{self, below, end_client, end_server, position};
use crate::call::{Call, Method, Methods, Trace};

/// The method of a call to a peer.
pub(super) const GET: &str = "google.longrunning.Operations/GetOperation";
/// The method of a served call.
pub(super) const CANCEL: &str = "google.longrunning.Operations/CancelOperation";

/// Installs a subscriber for this thread until it is dropped. Tests with a subscriber run one at a time: `tracing`
/// caches for the whole process which spans are enabled.
pub(super) struct SubscriberGuard {
    _here: DefaultGuard,
    _alone: MutexGuard<'static, ()>,
}

pub(super) fn install(subscriber: impl Subscriber + Send + Sync + 'static) -> SubscriberGuard {
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    SubscriberGuard { _here: tracing::subscriber::set_default(subscriber), _alone }
}

/// Spans that were exported, in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Recorded(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Recorded {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Recorded {
    /// Exports the spans of this thread until the guard is dropped.
    pub(super) fn begin() -> (Self, SubscriberGuard) {
        let recorded = Self::default();
        let sampler = Sampler::parent_based(Sampler::AlwaysOn);
        let provider =
            SdkTracerProvider::builder().with_simple_exporter(recorded.clone()).with_sampler(sampler).build();
        let subscriber = tracing_subscriber::registry().with(Exporter::with_provider(provider).layer());
        (recorded, install(subscriber))
    }

    /// The only span with this name.
    pub(super) fn named(&self, name: &str) -> SpanData {
        let spans = self.0.lock().unwrap();
        let mut named = spans.iter().filter(|span| span.name == name);
        let span = named.next().unwrap_or_else(|| panic!("no {name} in {spans:#?}")).clone();
        assert!(named.next().is_none(), "more than one {name}");
        span
    }
}

fn method(name: &str) -> &'static Method {
    Methods::of(&[]).find(&format!("/{name}"))
}

/// The span of a served call.
fn server(name: &str, caller: Option<Trace>) -> Span {
    let mut call = Call::to(&format!("/{name}"), Body::empty());
    if let Some(caller) = caller {
        caller.write(call.request.headers_mut());
    }
    span::server(&call)
}

/// The span of a call to the catalog.
fn client(name: &str) -> Span {
    span::client(method(name), "catalog", &Request::new(()))
}

#[test]
fn span_is_disabled_without_an_exporter() {
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
    let log = tracing_subscriber::Layer::with_filter(log, tracing_subscriber::filter::LevelFilter::DEBUG);
    let no_exporter = None::<Exporter>.as_ref().map(Exporter::layer);
    let _guard = install(tracing_subscriber::registry().with(no_exporter).with(log));
    assert!(!tracing::debug_span!("of the log").is_disabled());
    let (server, client) = (server(GET, None), client(GET));
    assert!(server.is_disabled() && client.is_disabled());
    assert_eq!(position(&server), None);
}

#[test]
fn span_of_a_call_is_between_its_caller_and_its_peer() {
    let (recorded, _guard) = Recorded::begin();
    let caller = Trace::begin();
    let served = server(CANCEL, Some(caller));
    served.in_scope(|| {
        tracing::info_span!("a service's own").in_scope(|| {
            let called = client(GET);
            let check = called.in_scope(|| server("grpc.health.v1.Health/Check", None));
            assert!(check.is_disabled(), "health checks are not exported");
        });
    });
    drop(served);
    let (served, own, called) = (recorded.named(CANCEL), recorded.named("a service's own"), recorded.named(GET));
    assert_eq!(served.parent_span_id, SpanId::from(caller.span_id));
    assert_eq!(own.parent_span_id, served.span_context.span_id());
    assert_eq!(called.parent_span_id, own.span_context.span_id());
    assert_eq!(called.span_context.trace_id(), TraceId::from(caller.trace_id));
    assert_eq!(recorded.0.lock().unwrap().len(), 3);
}

#[test]
fn span_of_a_call_that_is_passed_on_continues_the_trace() {
    let (recorded, _guard) = Recorded::begin();
    let caller = Trace::begin();
    drop(below(caller, || client(GET)));
    let called = recorded.named(GET);
    assert_eq!(called.parent_span_id, SpanId::from(caller.span_id));
    assert_eq!(called.span_context.trace_id(), TraceId::from(caller.trace_id));
    let unsampled = Trace { sampled: false, ..caller };
    let called = position(&below(unsampled, || client(GET))).unwrap();
    assert_eq!((called.trace_id, called.sampled), (caller.trace_id, false));
}

#[test]
fn span_of_an_unsampled_trace_continues_it_and_is_not_exported() {
    let (recorded, _guard) = Recorded::begin();
    let caller = Trace { sampled: false, ..Trace::begin() };
    let served = server(CANCEL, Some(caller));
    let continued = position(&served).unwrap();
    assert_eq!((continued.trace_id, continued.sampled), (caller.trace_id, false));
    assert_ne!(continued.span_id, caller.span_id);
    let called = served.in_scope(|| position(&client(GET)).unwrap());
    assert_eq!((called.trace_id, called.sampled), (caller.trace_id, false));
    drop(served);
    assert!(recorded.0.lock().unwrap().is_empty());
}

#[test]
fn span_of_a_new_trace_is_a_root() {
    let (recorded, _guard) = Recorded::begin();
    // The current span of the thread is not the parent of a call from the network.
    tracing::info_span!("something else").in_scope(|| drop(server(GET, None)));
    assert_eq!(recorded.named(GET).parent_span_id, SpanId::INVALID);
}

#[test]
fn span_of_a_server_does_not_fail_for_an_invalid_request() {
    for (code, by_server) in [(Code::NotFound, false), (Code::Unavailable, true), (Code::Ok, false)] {
        let (recorded, _guard) = Recorded::begin();
        let status = Status::new(code, "why");
        end_server(&server(CANCEL, None), method(CANCEL), &status, None);
        end_client(&client(GET), method(GET), &status, None);
        let failed = |name: &str| recorded.named(name).status == SpanStatus::error("why");
        assert_eq!((failed(CANCEL), failed(GET)), (by_server, code != Code::Ok), "{code:?}");
    }
}
