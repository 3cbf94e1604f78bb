//! Malformed frames of HTTP/2, in raw bytes. Where the answer is not what RFC 9113 wants, docs/operate/http2.md says
//! so.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use harness::{LIMIT, Process, root};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// A type that no document names.
const UNKNOWN: u8 = 0xbe;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// An empty message of gRPC.
const MESSAGE: &[u8] = &[0; 5];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Literals of HPACK that are not indexed, without Huffman's code.
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat();
    headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// The headers of a health check, and more of them.
fn head(more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "localhost")];
    let rest = [(":path", "/grpc.health.v1.Health/Check"), ("content-type", "application/grpc"), ("te", "trailers")];
    block(&[&pseudo[..], &rest, more].concat())
}

/// HEADERS of a check whose message follows.
fn begun(stream: u8, flags: u8) -> Vec<u8> {
    frame(HEADERS, flags, stream, &head(&[]))
}

/// A whole check with these headers.
fn check(more: &[(&str, &str)]) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, 1, &head(more)), frame(DATA, END_STREAM, 1, MESSAGE)].concat()
}

/// What a server does with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// The end of the connection, by GOAWAY with this code.
    Connection(&'static str),
    /// The end of the stream, by RST_STREAM with this code.
    Stream(&'static str),
    /// An answer, as if nothing were wrong.
    Served,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connection(code) => write!(f, "GOAWAY {code}"),
            Self::Stream(code) => write!(f, "RST_STREAM {code}"),
            Self::Served => write!(f, "an answer"),
        }
    }
}

use Answer::{Connection, Served, Stream};

const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Sends bytes behind the preface, and reads until the answer is clear.
fn answer(address: SocketAddr, name: &str, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(&[PREFACE, bytes].concat()).expect("it reads");
    loop {
        let mut header = [0; 9];
        stream.read_exact(&mut header).unwrap_or_else(|error| panic!("{name}: no answer: {error}"));
        let [high, middle, low, kind, flags, ..] = header;
        let mut payload = vec![0; usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)];
        stream.read_exact(&mut payload).expect("a whole frame");
        let code = |at: usize| CODES[usize::from(payload[at + 3])];
        match kind {
            GOAWAY => return Connection(code(4)),
            RST_STREAM => return Stream(code(0)),
            HEADERS if flags & END_STREAM != 0 => return Served,
            PING if flags & ACK != 0 => return Served,
            _ => {}
        }
    }
}

/// Inputs behind the preface, with the answer and with what RFC 9113 wants.
fn inputs() -> Vec<(&'static str, Vec<u8>, Answer, Answer)> {
    const PROTOCOL: Answer = Connection("PROTOCOL_ERROR");
    const RESET: Answer = Stream("PROTOCOL_ERROR");
    const SIZE: Answer = Connection("FRAME_SIZE_ERROR");
    const HPACK: Answer = Connection("COMPRESSION_ERROR");
    let settings = frame(SETTINGS, 0, 0, b"");
    let after = |frames: &[Vec<u8>]| [&settings[..], &frames.concat()].concat();
    let trailers = |headers: &[(&str, &str)]| {
        let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(headers));
        after(&[begun(1, END_HEADERS), frame(DATA, 0, 1, MESSAGE), trailers])
    };
    vec![
        ("PING before SETTINGS", frame(PING, 0, 0, &[0; 8]), PROTOCOL, PROTOCOL),
        ("HEADERS before SETTINGS", check(&[]), PROTOCOL, PROTOCOL),
        ("a PING of 7 bytes", after(&[frame(PING, 0, 0, &[0; 7])]), PROTOCOL, SIZE),
        ("PING on a stream", after(&[frame(PING, 0, 1, &[0; 8])]), PROTOCOL, PROTOCOL),
        ("SETTINGS of 5 bytes", after(&[frame(SETTINGS, 0, 0, &[0; 5])]), PROTOCOL, SIZE),
        ("an acknowledgement of SETTINGS with a payload", after(&[frame(SETTINGS, ACK, 0, &[0; 6])]), PROTOCOL, SIZE),
        ("SETTINGS on a stream", after(&[frame(SETTINGS, 0, 1, b"")]), PROTOCOL, PROTOCOL),
        (
            "SETTINGS_INITIAL_WINDOW_SIZE of 2^31",
            after(&[frame(SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0])]),
            PROTOCOL,
            Connection("FLOW_CONTROL_ERROR"),
        ),
        ("SETTINGS_MAX_FRAME_SIZE of 1", after(&[frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])]), PROTOCOL, PROTOCOL),
        ("a frame of 16,385 bytes", after(&[begun(1, END_HEADERS), frame(DATA, 0, 1, &[0; 16_385])]), SIZE, SIZE),
        ("DATA on stream 0", after(&[frame(DATA, 0, 0, MESSAGE)]), PROTOCOL, PROTOCOL),
        ("DATA on an idle stream", after(&[frame(DATA, 0, 1, MESSAGE)]), PROTOCOL, PROTOCOL),
        ("HEADERS on an even stream", after(&[begun(2, END_HEADERS)]), PROTOCOL, PROTOCOL),
        ("streams that go back", after(&[begun(3, END_HEADERS), begun(1, END_HEADERS)]), PROTOCOL, PROTOCOL),
        ("an index of HPACK that is none", after(&[frame(HEADERS, END_HEADERS, 1, &[0xff; 4])]), PROTOCOL, HPACK),
        ("a literal of HPACK that is cut", after(&[frame(HEADERS, END_HEADERS, 1, b"\0\x7fab")]), PROTOCOL, HPACK),
        (
            "padding that is longer than its frame",
            after(&[frame(HEADERS, END_HEADERS | PADDED, 1, &[9])]),
            PROTOCOL,
            PROTOCOL,
        ),
        ("a PRIORITY of 4 bytes", after(&[frame(PRIORITY, 0, 1, &[0; 4])]), PROTOCOL, Stream("FRAME_SIZE_ERROR")),
        ("RST_STREAM of an idle stream", after(&[frame(RST_STREAM, 0, 1, &[0; 4])]), PROTOCOL, PROTOCOL),
        ("a RST_STREAM of 3 bytes", after(&[begun(1, END_HEADERS), frame(RST_STREAM, 0, 1, &[0; 3])]), PROTOCOL, SIZE),
        ("a WINDOW_UPDATE of 3 bytes", after(&[frame(WINDOW_UPDATE, 0, 0, &[0; 3])]), PROTOCOL, SIZE),
        ("a WINDOW_UPDATE by 0", after(&[frame(WINDOW_UPDATE, 0, 0, &[0; 4])]), PROTOCOL, PROTOCOL),
        (
            "a window above 2^31 - 1",
            after(&[frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])]),
            Connection("FLOW_CONTROL_ERROR"),
            Connection("FLOW_CONTROL_ERROR"),
        ),
        (
            "a window of a stream above 2^31 - 1",
            after(&[begun(1, END_HEADERS), frame(WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])]),
            Stream("FLOW_CONTROL_ERROR"),
            Stream("FLOW_CONTROL_ERROR"),
        ),
        (
            "PUSH_PROMISE",
            after(&[begun(1, END_HEADERS), frame(PUSH_PROMISE, END_HEADERS, 1, &[0; 4])]),
            PROTOCOL,
            PROTOCOL,
        ),
        ("CONTINUATION alone", after(&[frame(CONTINUATION, END_HEADERS, 1, b"")]), PROTOCOL, PROTOCOL),
        ("PING within a block of headers", after(&[begun(1, 0), frame(PING, 0, 0, &[0; 8])]), PROTOCOL, PROTOCOL),
        (
            "CONTINUATION of another stream",
            after(&[begun(1, 0), frame(CONTINUATION, END_HEADERS, 3, b"")]),
            PROTOCOL,
            PROTOCOL,
        ),
        ("a frame of an unknown type", after(&[frame(UNKNOWN, 0xff, 0, b"x"), check(&[])]), Served, Served),
        (
            "DATA behind the end of its stream",
            after(&[check(&[]), frame(DATA, 0, 1, MESSAGE)]),
            PROTOCOL,
            Stream("STREAM_CLOSED"),
        ),
        (
            "a call without a method",
            after(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&[(":scheme", "http"), (":path", "/")]))]),
            RESET,
            RESET,
        ),
        ("a header of connections", after(&[check(&[("connection", "close")])]), RESET, RESET),
        ("te: gzip", after(&[check(&[("te", "gzip")])]), RESET, RESET),
        ("a content-length that is wrong", after(&[check(&[("content-length", "6")])]), RESET, RESET),
        ("a value that begins with a space", after(&[check(&[("x", " a")])]), Served, RESET),
        ("a value with a line feed", after(&[check(&[("x", "a\nb")])]), PROTOCOL, RESET),
        ("a name in capitals", after(&[check(&[("X", "a")])]), PROTOCOL, RESET),
        (
            "a pseudo header that is none",
            after(&[frame(HEADERS, END_HEADERS | END_STREAM, 1, &[block(&[(":x", "a")]), head(&[])].concat())]),
            PROTOCOL,
            RESET,
        ),
        ("trailers", trailers(&[("x", "a")]), Served, Served),
        (
            "trailers that do not end the stream",
            after(&[
                begun(1, END_HEADERS),
                frame(DATA, 0, 1, MESSAGE),
                frame(HEADERS, END_HEADERS, 1, &block(&[("x", "a")])),
            ]),
            RESET,
            RESET,
        ),
        ("trailers with a pseudo header", trailers(&[(":path", "/")]), Served, RESET),
        ("trailers with a header of connections", trailers(&[("connection", "close")]), RESET, RESET),
        ("trailers with a name in capitals", trailers(&[("X", "a")]), PROTOCOL, RESET),
    ]
}

#[test]
fn frames_that_are_malformed_are_answered_as_documented() {
    let process = Process::start("monolith", &[]);
    let mut differing = Vec::new();
    for (name, bytes, expected, wanted) in inputs() {
        assert_eq!(answer(process.address, name, &bytes), expected, "{name}");
        if expected != wanted {
            differing.push(format!("| {name} | {expected} | {wanted} |"));
        }
    }
    assert!(!process.log().contains("panicked"), "{}", process.log());
    // The owner of a project may have deleted the documents.
    if let Ok(page) = std::fs::read_to_string(root().join("docs/operate/http2.md")) {
        let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| input")).collect();
        assert_eq!(rows, differing, "docs/operate/http2.md lists the answers that differ from RFC 9113");
    }
}
