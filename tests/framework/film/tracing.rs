//! One trace through every hop, in every topology, and its export to a collector.

use contracts::artwork::v1::RenderArtworkRequest;
use contracts::catalog::v1::{CreateTitleRequest, CreateTitleResponse};
use harness::film::small_picture;
use harness::{Collector, Exported, Process, RawCall, eventually, uuid};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;

const RENDER: &str = "/artwork.v1.ArtworkService/RenderArtwork";
const GET_TITLE: &str = "/catalog.v1.CatalogService/GetTitle";

/// The span of a caller in a trace of its own.
struct Caller {
    trace: String,
    span: &'static str,
}

impl Caller {
    fn new() -> Self {
        Self { trace: uuid().replace('-', ""), span: "00f067aa0ba902b7" }
    }

    fn traceparent(&self, sampled: bool) -> String {
        format!("00-{}-{}-{:02x}", self.trace, self.span, u8::from(sampled))
    }
}

/// Makes a call and returns its code. Only the `traceparent` decides whether it is sampled.
fn render(artwork: &Process, title_id: &str, traceparent: &str) -> String {
    let request = RenderArtworkRequest { request_id: uuid(), title_id: title_id.to_owned(), image: small_picture() };
    let headers = [("traceparent", traceparent), ("tracestate", "one=1")];
    RawCall::begin(artwork.address, RENDER, &headers).finish(&request.encode_to_vec()).code
}

fn create_title(catalog: &Process) -> String {
    let request =
        CreateTitleRequest { request_id: uuid(), name: "Metropolis".to_owned(), year: 1927, ..Default::default() };
    let path = "/catalog.v1.CatalogService/CreateTitle";
    let created = RawCall::begin(catalog.address, path, &[]).finish(&request.encode_to_vec());
    let response = CreateTitleResponse::decode(&created.body[5..]).expect("a title");
    response.title.expect("a title").title_id
}

/// The three spans of RenderArtwork: that of artwork, of its call to the catalog, and of the catalog.
fn three(collector: &Collector, caller: &Caller) -> [Exported; 3] {
    let mut spans = eventually("three spans", || {
        let spans = collector.spans(&caller.trace);
        (spans.len() >= 3).then_some(spans)
    });
    assert_eq!(spans.len(), 3, "more than three spans: {spans:#?}");
    // A span starts before the spans it causes.
    spans.sort_by_key(|exported| exported.span.start_time_unix_nano);
    spans.try_into().expect("three")
}

/// The spans of a rendering, with artwork and the catalog in one process or two. Returns the span that started it.
fn exports_a_rendering(collector: &Collector, catalog: (&Process, &str), artwork: (&Process, &str)) -> Exported {
    let title = create_title(catalog.0);
    let caller = Caller::new();
    assert_eq!(render(artwork.0, &title, &caller.traceparent(true)), "0");
    let spans = three(collector, &caller);
    let [served, called, asked] = &spans;
    let names = spans.each_ref().map(|exported| (exported.span.name.as_str(), exported.span.kind()));
    let expected =
        [(&RENDER[1..], SpanKind::Server), (&GET_TITLE[1..], SpanKind::Client), (&GET_TITLE[1..], SpanKind::Server)];
    assert_eq!(names, expected);
    assert_eq!(spans.each_ref().map(Exported::parent), [caller.span.to_owned(), served.id(), called.id()]);
    assert_eq!(spans.each_ref().map(|exported| &*exported.service), [artwork.1, artwork.1, catalog.1]);

    for exported in &spans {
        let service = exported.span.name.split('/').next().expect("a service");
        assert_eq!(exported.text("rpc.system").as_deref(), Some("grpc"));
        assert_eq!(exported.text("rpc.service").as_deref(), Some(service));
        assert!(exported.span.name.ends_with(&exported.text("rpc.method").expect("a method")));
        assert_eq!(exported.number("rpc.grpc.status_code"), Some(0));
        assert_eq!(exported.span.status.as_ref().map_or(StatusCode::Unset, |status| status.code()), StatusCode::Unset);
    }
    assert_eq!(called.text("peer.service").as_deref(), Some("catalog"));
    for (outer, inner) in [(served, called), (called, asked)] {
        assert!(outer.span.start_time_unix_nano <= inner.span.start_time_unix_nano);
    }
    assert!(called.span.end_time_unix_nano <= served.span.end_time_unix_nano);

    // NOT_FOUND is no error of a server's span, but one of a client's.
    let caller = Caller::new();
    assert_eq!(render(artwork.0, &uuid(), &caller.traceparent(true)), "5");
    let failed = three(collector, &caller);
    assert_eq!(failed.each_ref().map(|exported| exported.number("rpc.grpc.status_code")), [Some(5); 3]);
    let status = |exported: &Exported| exported.span.status.as_ref().map_or(StatusCode::Unset, |status| status.code());
    assert_eq!(failed.each_ref().map(status), [StatusCode::Unset, StatusCode::Error, StatusCode::Unset]);
    let [started, ..] = spans;
    started
}

#[test]
fn trace_covers_one_process() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let monolith = Process::start("monolith", &[("MESH__OTLP__ENDPOINT", &endpoint)]);
    let started = exports_a_rendering(&collector, (&monolith, "monolith"), (&monolith, "monolith"));

    let (owner, trace) = (r#""owner":"anonymous""#, format!(r#""started_in":"{}""#, started.trace()));
    eventually("the log has the owner and the trace of the start", || {
        let log = monolith.log();
        let mut begun = log.lines().filter(|line| line.contains(r#""begun""#) && line.contains(&trace));
        begun.any(|line| line.contains(owner)).then_some(())
    });

    // A trace that starts here has a root. Long work has a trace of its own, because it outlives its caller's, and a
    // link to the call that started it.
    for begins in ["catalog.v1.CatalogService/CreateTitle", "attempt"] {
        let roots = eventually(begins, || {
            let mut spans = collector.all_spans();
            spans.retain(|one| one.span.name == begins);
            (!spans.is_empty()).then_some(spans)
        });
        assert_eq!(roots.iter().map(Exported::parent).collect::<Vec<_>>(), [""]);
        let links = roots[0].span.links.iter().map(|link| (&link.trace_id, &link.span_id));
        let cause = (begins == "attempt").then_some((&started.span.trace_id, &started.span.span_id));
        assert_eq!(links.collect::<Vec<_>>(), Vec::from_iter(cause));
    }
}

#[test]
fn trace_covers_two_processes() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let catalog = Process::start("catalog", &[("MESH__OTLP__ENDPOINT", &endpoint)]);
    let address = catalog.address.to_string();
    let environment =
        [("MESH__OTLP__ENDPOINT", &*endpoint), ("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &*address)];
    let artwork = Process::start("artwork", &environment);
    exports_a_rendering(&collector, (&catalog, "catalog"), (&artwork, "artwork"));
}

#[test]
fn traceparent_is_passed_on_sampled_or_not() {
    // The catalog is a collector that keeps its requests.
    let (catalog, collector) = (Collector::start(), Collector::start());
    let address = catalog.address.to_string();
    let endpoint = format!("http://{}", collector.address);
    let mut seen = 0;
    for exporting in [false, true] {
        let mut environment = vec![("MESH__REGISTRY", "static"), ("MESH__STATIC__CATALOG", &*address)];
        if exporting {
            environment.push(("MESH__OTLP__ENDPOINT", &endpoint));
        }
        let mut artwork = Process::start("artwork", &environment);
        for sampled in [false, true] {
            let caller = Caller::new();
            assert_eq!(render(&artwork, &uuid(), &caller.traceparent(sampled)), "0");
            let sent = catalog.headers(GET_TITLE, "traceparent");
            assert_eq!(sent.len(), seen + 1);
            let sent = sent[seen].clone().expect("a traceparent");
            assert_eq!(catalog.headers(GET_TITLE, "tracestate")[seen].as_deref(), Some("one=1"));
            seen += 1;
            let [version, trace, span, flags] = sent.split('-').collect::<Vec<_>>().try_into().expect("four parts");
            let flag = if sampled { "01" } else { "00" };
            assert_eq!((version, trace, flags), ("00", &*caller.trace, flag), "{sent}");
            assert_ne!(span, caller.span, "the call has no span of its own");
            if exporting && sampled {
                let exported = eventually("two spans", || {
                    let spans = collector.spans(&caller.trace);
                    (spans.len() == 2).then_some(spans)
                });
                let client = exported.iter().find(|one| one.span.kind() == SpanKind::Client).expect("the call's");
                assert_eq!(client.id(), span, "the span in `traceparent` is not the exported one");
            }
        }
        artwork.signal("TERM");
        assert_eq!(artwork.ended().0.code(), Some(0));
    }
    let calls = collector.all_spans().into_iter().filter(|one| one.text("rpc.system").is_some());
    assert_eq!(calls.count(), 2, "a call that was not sampled is exported: {:#?}", collector.all_spans());
}

#[test]
fn drain_exports_remaining_spans() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let mut monolith = Process::start("monolith", &[("MESH__OTLP__ENDPOINT", &endpoint)]);
    create_title(&monolith);
    monolith.signal("TERM");
    assert_eq!(monolith.ended().0.code(), Some(0));
    let created = |span: &&Exported| span.text("rpc.method").as_deref() == Some("CreateTitle");
    assert_eq!(collector.all_spans().iter().filter(created).count(), 1);
}

#[test]
fn missing_collector_fails_no_call() {
    // Nothing listens on this port at first.
    let away = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let endpoint = format!("http://{away}");
    let mut monolith = Process::start("monolith", &[("MESH__OTLP__ENDPOINT", &endpoint)]);
    let logged = |what: &str| monolith.log().lines().filter(|line| line.contains(what)).count();
    let lost = "spans cannot be exported";
    eventually("the failed export is logged", || {
        let start = std::time::Instant::now();
        create_title(&monolith);
        assert!(start.elapsed() < std::time::Duration::from_secs(1), "{:?}", start.elapsed());
        (logged(lost) > 0).then_some(())
    });

    let collector = Collector::start_at(away);
    eventually("spans arrive", || {
        create_title(&monolith);
        (!collector.all_spans().is_empty()).then_some(())
    });
    eventually("the recovery is logged", || (logged("spans are exported again") > 0).then_some(()));
    assert_eq!((logged(lost), logged("exported again")), (1, 1), "not logged once each: {}", monolith.log());

    // A collector that accepts everything and answers nothing delays a drain by at most a second.
    drop(collector);
    let _silent = std::net::TcpListener::bind(away).expect("the port");
    create_title(&monolith);
    monolith.signal("TERM");
    let (status, took) = monolith.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < std::time::Duration::from_secs(4), "took {took:?}");
}
