//! One trace through every hop, in every topology, and its export to a collector.

use contracts::artwork::v1::RenderArtworkRequest;
use contracts::catalog::v1::{CreateTitleRequest, CreateTitleResponse};
use harness::film::small_picture;
use harness::{Collector, Exported, Process, RawCall, eventually, unconventional, uuid};
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
        assert_eq!(exported.text("rpc.system.name").as_deref(), Some("grpc"));
        assert_eq!(exported.text("rpc.method").as_deref(), Some(&*exported.span.name));
        assert_eq!(exported.text("rpc.response.status_code").as_deref(), Some("OK"));
    }
    assert_eq!(unconventional(&spans), [""; 0]);
    let address = |exported: &Exported| exported.text("server.address");
    assert_eq!((address(served).as_deref(), address(called).as_deref()), (Some("127.0.0.1"), Some("catalog")));
    assert_eq!(served.number("server.port"), Some(artwork.0.address.port().into()));
    let peer = (catalog.1 != artwork.1).then_some(i64::from(catalog.0.address.port()));
    assert_eq!(called.number("network.peer.port"), peer, "in memory there is no connection");
    for (outer, inner) in [(served, called), (called, asked)] {
        assert!(outer.span.start_time_unix_nano <= inner.span.start_time_unix_nano);
    }
    assert!(called.span.end_time_unix_nano <= served.span.end_time_unix_nano);

    // NOT_FOUND is no error of a server's span, but one of a client's.
    let caller = Caller::new();
    assert_eq!(render(artwork.0, &uuid(), &caller.traceparent(true)), "5");
    let failed = three(collector, &caller);
    let code = |exported: &Exported| exported.text("rpc.response.status_code").unwrap_or_default();
    assert_eq!(failed.each_ref().map(code), ["NOT_FOUND"; 3]);
    assert_eq!(unconventional(&failed), [""; 0]);
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
fn spans_follow_the_conventions_whatever_a_call_ends_with() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let catalog = Process::start("catalog", &[("MESH__OTLP__ENDPOINT", &endpoint)]);
    for (path, timeout, code) in [
        (GET_TITLE, "10S", "INVALID_ARGUMENT"),
        (GET_TITLE, "1n", "DEADLINE_EXCEEDED"),
        ("/catalog.v1.CatalogService/Nothing", "10S", "UNIMPLEMENTED"),
        ("/made.up.Service/Nothing", "10S", "UNIMPLEMENTED"),
    ] {
        let caller = Caller::new();
        let headers = [("traceparent", &*caller.traceparent(true)), ("grpc-timeout", timeout)];
        RawCall::begin(catalog.address, path, &headers).finish(b"");
        let spans = eventually(path, || Some(collector.spans(&caller.trace)).filter(|spans| !spans.is_empty()));
        assert_eq!(spans[0].text("rpc.response.status_code").as_deref(), Some(code), "{path}");
        let original = (code == "UNIMPLEMENTED").then_some(&path[1..]);
        assert_eq!(spans[0].text("rpc.method_original").as_deref(), original, "{path}");
        assert_eq!(unconventional(&spans), [""; 0], "{path}");
    }
    assert_eq!(unconventional(&collector.all_spans()), [""; 0]);
}

#[test]
fn trace_shows_each_attempt_at_a_call() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let catalog = Process::start("catalog", &[]);
    // Nothing listens on the port behind the first address.
    let away = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let addresses = format!("{away}, {}", catalog.address);
    // An instance that cannot be reached is not called again for a while: each process tries it once.
    let (repeated, failure) = eventually("a call is repeated", || {
        let environment = [
            ("MESH__OTLP__ENDPOINT", &*endpoint),
            ("MESH__REGISTRY", "static"),
            ("MESH__STATIC__CATALOG", &*addresses),
        ];
        let artwork = Process::start("artwork", &environment);
        let caller = Caller::new();
        assert_eq!(render(&artwork, &uuid(), &caller.traceparent(true)), "5");
        let client = eventually("the span of the call", || {
            let spans = collector.spans(&caller.trace);
            spans.into_iter().find(|exported| exported.span.kind() == SpanKind::Client)
        });
        // Beside it are lines of the log.
        let failure = client.span.events.iter().find(|event| event.name == "attempt failed").cloned();
        Some((client, failure?))
    });
    assert_eq!(unconventional(std::slice::from_ref(&repeated)), [""; 0]);
    assert_eq!(repeated.number("network.peer.port"), Some(catalog.address.port().into()), "the last one is the peer");
    let attributes = format!("{:?}", failure.attributes);
    for part in ["error.type", "ENDPOINT_UNREACHABLE", "network.peer.port", &away.port().to_string()] {
        assert!(attributes.contains(part), "{part} is not in {attributes}");
    }
}

#[test]
fn variables_of_opentelemetry_name_the_collector_and_the_process() {
    let [by_variable, by_key] = [Collector::start(), Collector::start()];
    let [variable, key] = [&by_variable, &by_key].map(|collector| format!("http://{}", collector.address));
    let names = [("OTEL_SERVICE_NAME", "films"), ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")];
    for (own, expected, other) in [(None, &by_variable, &by_key), (Some(&key), &by_key, &by_variable)] {
        let before = other.all_spans().len();
        let mut environment = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", &*variable)];
        environment.extend(names);
        environment.extend(own.map(|key| ("MESH__OTLP__ENDPOINT", &**key)));
        let catalog = Process::start("catalog", &environment);
        create_title(&catalog);
        let spans = eventually("a span", || Some(expected.all_spans()).filter(|spans| !spans.is_empty()));
        assert_eq!(spans[0].service, "films");
        let environment = ("deployment.environment.name".to_owned(), "test".to_owned());
        assert!(spans[0].resource.contains(&environment), "{:?}", spans[0].resource);
        assert_eq!(other.all_spans().len(), before);
    }
    let before = by_variable.all_spans().len();
    let with_tls = variable.replace("http:", "https:");
    for (endpoint, protocol) in [(&variable, "http/protobuf"), (&with_tls, "grpc")] {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &**endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let mut catalog = Process::start("catalog", &variables);
        create_title(&catalog);
        catalog.signal("TERM");
        assert!(catalog.ended().0.success());
        assert!(catalog.log().contains("no spans are exported"), "{}", catalog.log());
    }
    assert_eq!(by_variable.all_spans().len(), before, "the collector is for another protocol");
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
    let calls = collector.all_spans().into_iter().filter(|one| one.text("rpc.system.name").is_some());
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
    let created = |span: &&Exported| span.span.name == "catalog.v1.CatalogService/CreateTitle";
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
