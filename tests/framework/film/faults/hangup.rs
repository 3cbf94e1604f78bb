//! A client disconnects right after it has sent a request: the operation exists with all its rows, or not at all.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use harness::{eventually, uuid};
use prost::Message as _;

use super::evidence::Evidence;
use super::system::System;

const PATH: &str = "/artwork.v1.ArtworkService/RenderArtwork";
/// The HTTP/2 error code CANCEL.
const CANCEL: u32 = 8;

on_both!(hangup_starts_all_or_nothing, 1);
fn hangup_starts_all_or_nothing(system: System) {
    let caller = system.caller();
    let (mut ids, mut open) = (Vec::new(), Vec::new());
    for round in 0..60 {
        let id = uuid();
        system.recorder.asks(&id);
        let mut stream = TcpStream::connect(system.process().address).expect("it listens");
        let request = caller.request(&id).encode_to_vec();
        stream.write_all(&call(&request)).expect("it reads");
        if round < 58 {
            // From before the server reads the request to after the answer.
            system.pause(Duration::from_micros(200) * (round / 2));
        } else {
            eventually("the operation is committed", || {
                (!Evidence::collect(&system.database).started(&id).is_empty()).then_some(())
            });
        }
        if round % 2 == 0 {
            stream.write_all(&frame(3, 0, 1, &CANCEL.to_be_bytes())).expect("it reads");
            open.push(stream);
        }
        ids.push(id);
    }
    Evidence::collect(&system.database).assert_whole();

    system.run(async {
        for id in &ids {
            caller.follow(&caller.start(id).await).await;
        }
    });
    let evidence = system.verdict();
    assert_eq!(evidence.operations.len(), ids.len(), "one operation for each request");
}

/// All frames of one call in one piece, written by hand: no library disconnects so soon.
fn call(message: &[u8]) -> Vec<u8> {
    // HPACK's static table has POST and http; of a path and an authority only the names.
    let mut headers = vec![0x83, 0x86];
    for (name, value) in [(4, PATH), (1, "test")] {
        headers.push(name);
        headers.extend(short(value));
    }
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        headers.push(0);
        headers.extend([short(name), short(value)].concat());
    }
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    let data = [&[0], &length[..], message].concat();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &*frame(4, 0, 0, &[])].concat();
    // The flags END_HEADERS and END_STREAM.
    [begin, frame(1, 4, 1, &headers), frame(0, 1, 1, &data)].concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A string in HPACK: its length, which must be below 127, and its bytes.
fn short(text: &str) -> Vec<u8> {
    [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat()
}
