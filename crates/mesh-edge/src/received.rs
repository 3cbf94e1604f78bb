//! What the layers receive of a request: its token, and nothing that only the mesh says of a call.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::header::{AUTHORIZATION, CACHE_CONTROL, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, request};
use http_body::Frame;
use http_body_util::{BodyExt as _, Either, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_rpc::auth::{self, Gate, Mode};
use mesh_rpc::call::body::trailers;
use mesh_rpc::call::error::{DOMAIN, status};
use mesh_rpc::call::{Call, Connection, Handler, Methods, handler};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::chat::descriptors;
use crate::{Edge, Settings, from_outside};

const TOKEN: &str = "Bearer a.b.c";
/// What a client says that is not its to say.
const SPOOFED: [(&str, &str); 6] = [
    ("mesh-passport", "a.b.c"),
    ("mesh-cause", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b700f067aa0ba902b7-3"),
    ("x-mesh-user", "root"),
    ("x_mesh_user", "root"),
    ("mesh_passport", "a.b.c"),
    ("x-forwarded-client-cert", "By=spiffe://dev.mesh/gateway"),
];

/// Headers and trailers of the call that the layers have received last.
type Received = Arc<Mutex<Option<(HeaderMap, Option<HeaderMap>)>>>;

/// Layers that answer with one empty message, or with `refusal`.
fn layers(received: &Received, refusal: Option<&'static str>) -> Handler {
    let received = Arc::clone(received);
    handler(move |call: Call| {
        let received = Arc::clone(&received);
        let (head, body) = call.request.into_parts();
        // A socket makes its call before it is open.
        *received.lock().unwrap() = Some((head.headers.clone(), None));
        async move {
            let trailers_of_request = body.collect().await.unwrap().trailers().cloned();
            *received.lock().unwrap() = Some((head.headers, trailers_of_request));
            if let Some(reason) = refusal {
                return status(Code::Unauthenticated, DOMAIN, reason, "refused").into_http();
            }
            let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(trailers(&Status::ok("")))];
            Response::new(Body::new(StreamBody::new(stream::iter(frames.map(Ok::<_, Status>)))))
        }
    })
}

fn edge(layers: Handler) -> Edge {
    edge_with(layers, Gate::open())
}

fn edge_with(layers: Handler, gate: Gate) -> Edge {
    let set = descriptors();
    let (listen, methods) = ("127.0.0.1:1".parse().unwrap(), Methods::of(&[&set]));
    let contract = (&[&set[..]][..], &methods, &BTreeSet::from(["chat.v1.Chat"]));
    let settings = Settings { cors_origins: vec!["https://shop.example".to_owned()], ..Settings::default() };
    Edge::new(&settings, listen, layers, gate, contract, Metrics::default(), Tasks::default()).unwrap()
}

fn spoofing(request: request::Builder) -> request::Builder {
    SPOOFED.into_iter().fold(request.header("host", "localhost"), |request, (name, value)| request.header(name, value))
}

/// Sends a request with trailers over HTTP/1.1.
async fn send(edge: &Edge, request: request::Builder, body: &'static [u8]) -> http::response::Parts {
    let front = edge.answers().front;
    let (client, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let answer = service_fn(move |request: Request<Incoming>| {
            let answering = front(request, Connection::default());
            async move { Ok::<_, Infallible>(answering.await) }
        });
        let http = hyper::server::conn::http1::Builder::new();
        let _ = http.serve_connection(TokioIo::new(server), answer).with_upgrades().await;
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    let (request, body) = if body.is_empty() {
        (request, Either::Left(Empty::new()))
    } else {
        let frames = [Frame::data(Bytes::from_static(body)), Frame::trailers(spoofed())].map(Ok::<_, Infallible>);
        let request = request.header("trailer", "mesh-passport, x_mesh_user");
        (request, Either::Right(StreamBody::new(stream::iter(frames))))
    };
    sender.send_request(request.body(body).unwrap()).await.unwrap().into_parts().0
}

fn spoofed() -> HeaderMap {
    SPOOFED.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

/// The token of the last call.
fn token(received: &Received, what: &str) -> Option<String> {
    let (headers, trailers) = received.lock().unwrap().take().unwrap_or_else(|| panic!("{what} made no call"));
    for name in spoofed().keys() {
        assert!(!headers.contains_key(name), "{what} passes {name} on");
    }
    assert_eq!(trailers, None, "{what} passes trailers on");
    let token = headers.get(AUTHORIZATION)?;
    Some(token.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn token_of_http_passes_and_identities_do_not() {
    let received = Received::default();
    let edge = edge(layers(&received, None));
    let grpc_web = |path: &str| Request::post(path).header("content-type", "application/grpc-web+proto");
    for (what, request, body) in [
        ("JSON", Request::get("/v1/rooms/7"), &b""[..]),
        ("a stream of lines", Request::get("/v1/rooms/7:count"), b""),
        ("a stream of events", Request::get("/v1/rooms/7:count").header("accept", "text/event-stream"), b""),
        ("gRPC-Web", grpc_web("/chat.v1.Chat/Read"), &[0; 5]),
        ("a stream of gRPC-Web", grpc_web("/chat.v1.Chat/Talk"), &[0; 5]),
    ] {
        let head = send(&edge, spoofing(request).header(AUTHORIZATION, TOKEN), body).await;
        assert_eq!(head.status, 200, "{what}");
        assert_eq!(token(&received, what).as_deref(), Some(TOKEN), "{what}");
    }
    send(&edge, spoofing(Request::get("/v1/rooms/7")), b"").await;
    assert_eq!(token(&received, "JSON"), None);
}

#[tokio::test]
async fn token_of_grpc_passes_and_identities_do_not() {
    let received = Received::default();
    let layers = layers(&received, None);
    let gateway = from_outside(layers.clone());
    let methods = Methods::of(&[&descriptors()]);
    let call = |path: &str, tokens: &[&'static str]| {
        let frames = [Frame::data(Bytes::from_static(&[0; 5])), Frame::trailers(spoofed())].map(Ok::<_, Status>);
        let mut request = spoofing(Request::post(path)).body(Body::new(StreamBody::new(stream::iter(frames)))).unwrap();
        for token in tokens {
            request.headers_mut().append(AUTHORIZATION, HeaderValue::from_static(token));
        }
        Call::new(methods.find(path), Some(Connection::default()), request)
    };
    let of_edge = edge(layers).answers().layers;
    for (what, layers) in [("the edge", of_edge), ("a gateway", gateway)] {
        for path in ["/chat.v1.Chat/Read", "/chat.v1.Chat/Talk"] {
            let called = call(path, &[TOKEN]);
            assert!(called.context.cause.is_some(), "there is a cause to drop");
            layers(called).await;
            assert_eq!(token(&received, what).as_deref(), Some(TOKEN), "{what}");
        }
        let refused = layers(call("/chat.v1.Chat/Read", &[TOKEN, "Bearer d.e.f"])).await;
        let refused = Status::from_header_map(refused.headers()).expect("a failure");
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}");
        assert!(received.lock().unwrap().is_none(), "{what} makes a call with two tokens");
    }
}

#[tokio::test]
async fn token_of_a_socket_is_offered_beside_its_subprotocol() {
    let received = Received::default();
    let edge = edge(layers(&received, None));
    let open = async |path: &str, headers: &[(&str, &str)]| {
        let upgrade = Request::get(path)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        let upgrade = headers.iter().fold(upgrade, |request, (name, value)| request.header(*name, *value));
        send(&edge, spoofing(upgrade), b"").await
    };
    for (what, path) in [("a socket both ways", "/v1/rooms/7:talk"), ("a socket of answers", "/v1/rooms/7:count")] {
        for (headers, chosen) in [
            (("sec-websocket-protocol", "mesh.json, bearer.a.b.c"), Some("mesh.json")),
            (("authorization", TOKEN), None),
        ] {
            let head = open(path, &[headers]).await;
            assert_eq!(head.status, 101, "{what}");
            let answered = head.headers.get("sec-websocket-protocol").map(|chosen| chosen.to_str().unwrap());
            assert_eq!(answered, chosen, "{what}");
            assert_eq!(token(&received, what).as_deref(), Some(TOKEN), "{what}");
        }
        for headers in [
            &[("sec-websocket-protocol", "bearer.a.b.c")][..],
            &[("sec-websocket-protocol", "mesh.json, bearer.a.b.c"), ("authorization", TOKEN)],
            &[("authorization", TOKEN), ("authorization", "Bearer d.e.f")],
        ] {
            assert_eq!(open(path, headers).await.status, 400, "{what}: {headers:?}");
            assert!(received.lock().unwrap().is_none(), "{what} makes a call: {headers:?}");
        }
    }
}

#[tokio::test]
async fn pages_of_listed_origins_may_send_a_token() {
    let edge = edge(layers(&Received::default(), None));
    let preflight = Request::options("/v1/rooms/7")
        .header("host", "localhost")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "authorization");
    let head = send(&edge, preflight, b"").await;
    let allowed = head.headers["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.split(", ").any(|name| name == "authorization"), "{allowed}");
}

#[tokio::test]
async fn answers_to_users_are_in_no_shared_cache() {
    let edge = edge(layers(&Received::default(), None));
    for (path, cache, varies) in
        [("/v1/rooms/7", "private, max-age=60", true), ("/v1/board", "public, max-age=60", false)]
    {
        let head = send(&edge, Request::get(path).header("host", "localhost"), b"").await;
        assert_eq!(head.headers[CACHE_CONTROL], cache, "{path}");
        let vary = head.headers.get_all(VARY).iter().any(|name| name == "authorization");
        assert_eq!(vary, varies, "{path}");
    }
}

#[tokio::test]
async fn refused_token_is_a_401_with_a_challenge() {
    for (reason, challenge) in [("TOKEN_MISSING", "Bearer"), ("TOKEN_EXPIRED", "Bearer error=\"invalid_token\"")] {
        let edge = edge(layers(&Received::default(), Some(reason)));
        for (path, accepted) in [("/v1/rooms/7", "*/*"), ("/v1/rooms/7:count", "text/event-stream")] {
            let request = Request::get(path).header("host", "localhost").header("accept", accepted);
            let head = send(&edge, request, b"").await;
            assert_eq!((head.status.as_u16(), &head.headers["www-authenticate"]), (401, &challenge.parse().unwrap()));
            assert_eq!(head.headers["content-type"], "application/problem+json", "{path}");
        }
    }
}

#[tokio::test]
async fn callers_are_asked_before_their_request_is_read() {
    let required = auth::Settings {
        mode: Mode::Required,
        tokens: None,
        vouchers: Vec::new(),
        shows_contracts: false,
        intentions: None,
        is_development: false,
    };
    let received = Received::default();
    let asking = edge_with(layers(&received, None), Gate::new(&required, None, Metrics::default()));
    let open = edge(layers(&received, None));
    for (path, asked, otherwise) in
        [("/v1/rooms/7?mistake=1", 401, 400), ("/v1/rooms/7:watch?mistake=1", 401, 400), ("/v1/board", 200, 200)]
    {
        for (edge, status) in [(&asking, asked), (&open, otherwise)] {
            let head = send(edge, Request::get(path).header("host", "localhost"), b"").await;
            assert_eq!(head.status.as_u16(), status, "{path}");
            assert_eq!(received.lock().unwrap().take().is_some(), status == 200, "{path}");
        }
    }
}
