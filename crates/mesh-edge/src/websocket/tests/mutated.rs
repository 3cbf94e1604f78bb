//! Frames that were changed at random, through the socket, to a call that sends each request back.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::stream;
use mesh_rpc::call::Methods;
use mesh_rpc::call::body::trailers;
use tokio::io::{AsyncReadExt as _, DuplexStream};

use super::*;
use crate::chat::descriptors;
use crate::contract::Contract;
use crate::mutated::{begin, mutate};

const PATH: &str = "/v1/rooms/7:talk";
const PONG: u8 = 0x8a;
/// The time in which an answer comes, if one does. No ping comes within it.
const PAUSE: Duration = Duration::from_secs(1);

/// A frame of a client, with a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let length = payload.len();
    let mut frame = match u8::try_from(length).ok().filter(|length| *length < 126) {
        Some(short) => vec![first, 0x80 | short],
        None => vec![first, 0x80 | 126, (length >> 8) as u8, length as u8],
    };
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn corpus() -> Vec<Vec<u8>> {
    let end = || frame(TEXT, b"");
    let unknown = format!("{{\"{}\": 1}}", "\u{e9}".repeat(150));
    let long = format!("{{\"text\": \"{}\"}}", "\u{e9}".repeat(150));
    [
        vec![frame(TEXT, b"{\"text\": \"a\"}"), end()],
        vec![frame(TEXT, b"{\"text\": \"a\"}"), frame(TEXT, b"{\"extra\": [1, null, {\"b\": true}]}"), end()],
        vec![
            frame(0x01, b"{\"text\":"),
            frame(PING, b"hello"),
            frame(0x00, b" \"\xc3"),
            frame(0x80, b"\xa9\"}"),
            end(),
        ],
        vec![frame(TEXT, long.as_bytes()), end()],
        vec![frame(TEXT, unknown.as_bytes())],
        vec![frame(PONG, b"unasked"), frame(CLOSE, b"\x03\xe8bye")],
        vec![frame(TEXT, b"{\"text\": \"b\"}"), frame(CLOSE, b"")],
        vec![frame(0x82, b"{}")],
    ]
    .map(|frames| frames.concat())
    .into()
}

/// The frames of the server. `None`: they are not frames of a server, each whole and with a length of the shortest
/// form.
fn frames(mut bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut frames = Vec::new();
    while let Some(([first, length], rest)) = bytes.split_first_chunk() {
        let (length, rest) = match *length {
            126 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
            length => (usize::from(length), rest),
        };
        let (payload, rest) = rest.split_at_checked(length)?;
        frames.push((*first, payload));
        bytes = rest;
    }
    bytes.is_empty().then_some(frames)
}

/// What a client reads that sends `input`, waits, and leaves.
async fn ask(mut client: DuplexStream, input: &[u8]) -> Vec<u8> {
    client.write_all(input).await.unwrap();
    let mut answer = Vec::new();
    let answered = async { while client.read_buf(&mut answer).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(PAUSE, answered).await;
    client.shutdown().await.unwrap();
    client.read_to_end(&mut answer).await.unwrap();
    answer
}

/// Whether the answer to `input` has a text, and whether it refuses something.
fn check(input: &[u8], answer: &[u8]) -> (bool, bool) {
    let found = frames(answer).unwrap_or_else(|| panic!("{input:?} was answered with {answer:?}"));
    let (mut texts, mut refused) = (0, false);
    for (index, (first, payload)) in found.iter().enumerate() {
        match *first {
            TEXT => {
                let line: serde_json::Value = serde_json::from_slice(payload).expect("JSON");
                assert_eq!(line["room"], "7", "{input:?} was answered with {line}");
                texts += 1;
            }
            PONG => assert!(payload.len() < 126, "{input:?}"),
            CLOSE => {
                assert_eq!(index + 1, found.len(), "{input:?}: {found:?}: something follows the close");
                assert!(std::str::from_utf8(payload.get(2..).unwrap_or_default()).is_ok(), "{input:?}");
                refused |= payload.starts_with(&4003u16.to_be_bytes()) || payload.starts_with(&1002u16.to_be_bytes());
            }
            first => panic!("{input:?} was answered with a frame {first:x}"),
        }
    }
    (texts > 0, refused)
}

#[tokio::test(start_paused = true)]
async fn socket_survives_mutated_frames() {
    let set = descriptors();
    let contract = Contract::read(&[&set], &BTreeSet::from(["chat.v1.Chat"]), &Methods::of(&[&set])).unwrap();
    let contract = Arc::new(contract);
    let head = http::Request::get(PATH).body(()).unwrap().into_parts().0;
    let (inputs, mut random) = begin();
    let (corpus, mut answered, mut refused) = (corpus(), 0, 0);
    for _ in 0..inputs {
        let input = mutate(&mut random, &corpus);
        let route = contract.find(KIND, PATH).unwrap().0;
        let (requests, body) = Requests::of(&head);
        let end = stream::once(async { Ok::<_, Status>(Frame::trailers(trailers(&Status::ok("")))) });
        let mut body = Box::pin(body);
        let data = stream::poll_fn(move |cx| http_body::Body::poll_frame(body.as_mut(), cx));
        let response = Response::new(Body::new(StreamBody::new(data.chain(end))));
        let (client, server) = tokio::io::duplex(1 << 16);
        let serving = async {
            let socket = Socket::new(server, 1000).await;
            serve_socket(socket, route, requests, Box::pin(std::future::ready(response)), pin!(std::future::pending()))
                .await;
        };
        let served = timeout(STALLED, async { tokio::join!(serving, ask(client, &input)).1 });
        let answer = served.await.unwrap_or_else(|_| panic!("{input:?} leaves the socket open"));
        let (answers, refuses) = check(&input, &answer);
        answered += usize::from(answers);
        refused += usize::from(refuses);
    }
    // Otherwise only the refusal of nonsense was tested.
    assert!(answered > inputs / 100 && refused > inputs / 100, "of {inputs}, {answered} answered, {refused} refused");
}
