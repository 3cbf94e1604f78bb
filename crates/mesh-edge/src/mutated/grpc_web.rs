use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mesh_rpc::auth::Gate;
use mesh_rpc::call::body::trailers;
use mesh_rpc::call::{Call, Connection, Methods, handler};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use prost::Message as _;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codec::{DecodeBuf, Decoder, Streaming};
use tonic::{Code, Status};

use super::{begin, corpus, framed, mutate};
use crate::chat::descriptors;
use crate::{Edge, Settings};

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    room: String,
    #[prost(string, tag = "2")]
    text: String,
}

struct Lines;

impl Decoder for Lines {
    type Item = Line;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Line>, Status> {
        let message = from.copy_to_bytes(from.remaining());
        Line::decode(message).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// Sends each message of the request back, as far as tonic reads it.
async fn echo(call: Call) -> Response<Body> {
    let mut lines = Streaming::new_request(Lines, call.request.into_body(), None, Some(1000));
    let mut answer = Vec::new();
    let status = loop {
        match lines.message().await {
            Ok(Some(line)) => answer.extend(framed(&[&line.encode_to_vec()])),
            Ok(None) => break Status::ok(""),
            Err(status) => break status,
        }
    };
    let frames = [Frame::data(Bytes::from(answer)), Frame::trailers(trailers(&status))].map(Ok::<_, Status>);
    Response::new(Body::new(StreamBody::new(stream::iter(frames))))
}

/// A connection in memory to an edge before `echo`.
async fn connect() -> SendRequest<Full<Bytes>> {
    let set = descriptors();
    let (listen, methods) = ("127.0.0.1:1".parse().unwrap(), Methods::of(&[&set]));
    let contract = (&[&set[..]][..], &methods, &BTreeSet::from(["chat.v1.Chat"]));
    let edge = Edge::new(
        &Settings::default(),
        listen,
        handler(echo),
        Gate::open(),
        contract,
        Metrics::default(),
        Tasks::default(),
    )
    .unwrap();
    let front = edge.answers().front;
    let (client, server) = tokio::io::duplex(1 << 16);
    tokio::spawn(async move {
        let answer = service_fn(move |request: Request<Incoming>| {
            let answering = front(request, Connection::default());
            async move { Ok::<_, Infallible>(answering.await) }
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), answer).await.unwrap();
    });
    let (sender, connection) = handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The code of an answer whose frames are those of gRPC-Web. `None`: they are not.
fn code(answer: &[u8]) -> Option<Code> {
    let mut rest = answer;
    loop {
        let ([kind, length @ ..], behind) = rest.split_first_chunk::<5>()?;
        let (frame, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        rest = behind;
        match kind {
            0 => drop(Line::decode(frame).ok()?),
            0x80 if rest.is_empty() => {
                let lines = std::str::from_utf8(frame).ok()?.strip_suffix("\r\n")?;
                let mut lines = lines.split("\r\n").map(|line| line.split_once(": "));
                let all: Option<Vec<_>> = lines.by_ref().collect();
                let code = all?.into_iter().find(|(name, _)| *name == "grpc-status")?.1;
                return code.parse().ok().filter(|code| (0..=16).contains(code)).map(Code::from_i32);
            }
            _ => return None,
        }
    }
}

#[tokio::test]
async fn grpc_web_survives_mutation() {
    let (inputs, mut random) = begin();
    let (corpus, mut connection) = (corpus(), connect().await);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..inputs {
        let input = mutate(&mut random, &corpus);
        let request = Request::post("/chat.v1.Chat/Talk").header("host", "localhost");
        let request = request.header("content-type", "application/grpc-web+proto");
        let request = request.body(Full::new(Bytes::from(input.clone()))).unwrap();
        let answered = timeout(Duration::from_secs(20), async {
            connection.ready().await.unwrap();
            let answer = connection.send_request(request).await.unwrap();
            (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
        });
        let (status, answer) = answered.await.unwrap_or_else(|_| panic!("{input:?} is not answered"));
        let code = code(&answer).unwrap_or_else(|| panic!("{input:?} was answered with {answer:?}"));
        assert_eq!(status, 200);
        *(if code == Code::Ok { &mut read } else { &mut refused }) += 1;
    }
    // Otherwise only the refusal of nonsense was tested.
    assert!(read > inputs / 100 && refused > inputs / 100, "of {inputs}, {read} were read and {refused} refused");
}
