//! A client that writes its frames byte by byte, and an edge with a contract of its own.

use std::collections::BTreeSet;
use std::convert::Infallible;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use mesh_rpc::auth::Gate;
use mesh_rpc::call::{Call, Connection, Methods, handler};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::chat::descriptors;
use crate::{Edge, Settings};

/// The bytes that wait for their reader, each way.
pub(super) const BUFFER: usize = 1 << 20;

/// Sends each message of the request back when the answer is read. A request with a number as its text is answered with
/// as many characters, and one with 0 is not answered.
async fn echo(call: Call) -> Response<Body> {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let end = futures_util::stream::once(async { Ok::<_, Status>(Frame::trailers(trailers)) });
    let mut body = call.request.into_body();
    if call.method.name == "Count" {
        let request = body.collect().await.unwrap().to_bytes();
        let digits: Vec<_> = request[PREFIX..].iter().copied().filter(u8::is_ascii_digit).collect();
        // The first digit is the room.
        let count: usize =
            String::from_utf8(digits).unwrap().trim_start_matches('7').trim_end_matches('7').parse().unwrap();
        if count == 0 {
            std::future::pending::<()>().await;
        }
        let mut message = vec![0; PREFIX];
        message.push(0x12);
        prost::encoding::encode_varint(count as u64, &mut message);
        message.resize(message.len() + count, b'a');
        body = Body::new(http_body_util::Full::new(seal(message)));
    }
    let frames =
        futures_util::stream::poll_fn(move |cx| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), cx));
    Response::new(Body::new(StreamBody::new(frames.chain(end))))
}

pub(super) struct Peer(DuplexStream);

impl Peer {
    /// Opens a socket.
    pub(super) async fn open(path: &str) -> Self {
        Self::open_over(Connection::default(), path).await
    }

    /// Opens a socket over this connection.
    pub(super) async fn open_over(connection: Connection, path: &str) -> Self {
        let headers = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let (peer, head) = Self::ask_over(connection, path, headers).await;
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
        peer
    }

    /// Sends the head of a request, and reads that of the answer.
    pub(super) async fn ask(path: &str, headers: &str) -> (Self, String) {
        Self::ask_over(Connection::default(), path, headers).await
    }

    async fn ask_over(connection: Connection, path: &str, headers: &str) -> (Self, String) {
        let set = descriptors();
        let settings = Settings { max_body: 1000, ..Settings::default() };
        let (listen, methods) = ("127.0.0.1:1".parse().unwrap(), Methods::of(&[&set]));
        let contract = (&[&set[..]][..], &methods, &BTreeSet::from(["chat.v1.Chat"]));
        let edge =
            Edge::new(&settings, listen, handler(echo), Gate::open(), contract, Metrics::default(), Tasks::default());
        let front = edge.unwrap().answers().front;
        let (client, server) = tokio::io::duplex(BUFFER);
        tokio::spawn(async move {
            let answer = service_fn(move |request: http::Request<Incoming>| {
                let answering = front(request, connection.clone());
                async move { Ok::<_, Infallible>(answering.await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(server), answer).with_upgrades().await;
        });
        let mut peer = Self(client);
        peer.bytes(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes()).await;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            head.push(char::from(peer.0.read_u8().await.unwrap()));
        }
        (peer, head)
    }

    pub(super) async fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Sends a frame, by its first byte. The mask changes nothing.
    pub(super) async fn send(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        let payload = payload.as_ref();
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | length as u8),
            length @ ..0x1_0000 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.bytes(&frame).await;
    }

    /// Receives a frame: its first byte and its payload.
    pub(super) async fn frame(&mut self) -> (u8, Vec<u8>) {
        let first = self.0.read_u8().await.unwrap();
        let length = match self.0.read_u8().await.unwrap() {
            126 => u64::from(self.0.read_u16().await.unwrap()),
            127 => self.0.read_u64().await.unwrap(),
            length => u64::from(length),
        };
        let mut payload = vec![0; length.try_into().unwrap()];
        self.0.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }

    /// Receives a text.
    pub(super) async fn text(&mut self) -> String {
        let (first, payload) = tokio::time::timeout(STALLED, self.frame()).await.expect("a frame");
        assert_eq!(first, TEXT, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// Receives the close: its code and its reason.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        let (first, payload) = tokio::time::timeout(STALLED, self.frame()).await.expect("a frame");
        assert_eq!(first, CLOSE, "{payload:?}");
        let (code, reason) = payload.split_first_chunk().unwrap();
        (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
    }

    /// Waits until the server has cut the client off, and counts what it has sent before.
    pub(super) async fn pongs_until_the_end(&mut self) -> usize {
        tokio::time::sleep(2 * STALLED).await;
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes).await;
        bytes.len() / 127
    }

    /// Waits until the connection ends.
    pub(super) async fn ended(&mut self) -> bool {
        self.0.read_u8().await.is_err()
    }
}
