//! A gRPC server that answers every call with an empty message and keeps the requests. Tests use it as a collector of
//! spans, and as a peer whose requests are checked.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// The server. It stops when it is dropped.
pub struct Collector {
    /// The address it listens on.
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    _runtime: Runtime,
}

/// A received call.
#[derive(Clone)]
struct Call {
    path: String,
    headers: HeaderMap,
    message: Bytes,
}

/// An exported span, and the service that exported it.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The name of the service.
    pub service: String,
    /// The attributes of the process that are text.
    pub resource: Vec<(String, String)>,
    /// The URL of the schema that names follow.
    pub schema: String,
    /// The span.
    pub span: Span,
}

impl Collector {
    /// Starts on a free port.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().expect("an address"))
    }

    /// Starts at a given address.
    pub fn start_at(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind(address)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::default();
        let kept = Arc::clone(&calls);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, Arc::clone(&kept)));
            }
        });
        Self { address, calls, _runtime: runtime }
    }

    /// The spans of one trace received so far.
    pub fn spans(&self, trace: &str) -> Vec<Exported> {
        let mut spans = self.all_spans();
        spans.retain(|exported| hex(&exported.span.trace_id) == trace);
        spans
    }

    /// All spans received so far.
    pub fn all_spans(&self) -> Vec<Exported> {
        let calls = self.calls.lock().expect("no panic").clone();
        let mut spans = Vec::new();
        for call in calls.iter().filter(|call| call.path.ends_with("TraceService/Export")) {
            let request = ExportTraceServiceRequest::decode(call.message.clone()).expect("an export");
            for resource in request.resource_spans {
                let attributes = resource.resource.expect("a resource").attributes;
                let service = text(&attributes, "service.name").expect("a service's name");
                let texts = attributes.iter().filter_map(|one| Some((one.key.clone(), text(&attributes, &one.key)?)));
                let texts: Vec<_> = texts.collect();
                for scope in resource.scope_spans {
                    let exported = |span| Exported {
                        service: service.clone(),
                        resource: texts.clone(),
                        schema: scope.schema_url.clone(),
                        span,
                    };
                    spans.extend(scope.spans.into_iter().map(exported));
                }
            }
        }
        spans
    }

    /// One header of each call to `path`.
    pub fn headers(&self, path: &str, name: &str) -> Vec<Option<String>> {
        let calls = self.calls.lock().expect("no panic");
        let header = |call: &Call| Some(call.headers.get(name)?.to_str().expect("ASCII").to_owned());
        calls.iter().filter(|call| call.path == path).map(header).collect()
    }
}

impl Exported {
    /// The span's id in hexadecimal.
    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The id of its trace in hexadecimal.
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// The parent's id in hexadecimal; empty at the root of a trace.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// An attribute of type string.
    pub fn text(&self, key: &str) -> Option<String> {
        text(&self.span.attributes, key)
    }

    /// An attribute of type integer.
    pub fn number(&self, key: &str) -> Option<i64> {
        match value(&self.span.attributes, key)? {
            Value::IntValue(number) => Some(*number),
            _ => None,
        }
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    match value(attributes, key)? {
        Value::StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Value> {
    let AnyValue { value } = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    value.as_ref()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn connection(stream: TcpStream, calls: Arc<Mutex<Vec<Call>>>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let calls = Arc::clone(&calls);
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut frame = Vec::new();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
                frame.extend_from_slice(&data);
            }
            // A gRPC frame: one byte for the compression flag, four for the length, then the message.
            let message = Bytes::from(frame).split_off(5);
            calls.lock().expect("no panic").push(Call {
                path: head.uri.path().to_owned(),
                headers: head.headers,
                message,
            });
            let response = http::Response::builder().header("content-type", "application/grpc").body(());
            // A caller that has disconnected needs no answer.
            let Ok(mut stream) = respond.send_response(response.expect("a response"), false) else { return };
            let _ = stream.send_data(Bytes::from_static(&[0; 5]), false);
            let _ = stream.send_trailers([("grpc-status", "0")].map(header).into_iter().collect());
        });
    }
}

fn header((name, value): (&'static str, &'static str)) -> (http::HeaderName, http::HeaderValue) {
    (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
}
