//! Clients that take more than they give: what they get, and that the others do not notice.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::harness::{LIMIT, Process, RawCall, RawConnection, eventually};

const GET_TITLE: &str = "/catalog.v1.CatalogService/GetTitle";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";

const INVALID_ARGUMENT: &str = "3";
const UNAVAILABLE: &str = "14";

/// How HTTP/2 begins: its preface, and settings that say nothing.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An ordinary call, by a caller who has no patience for others: a title without an id is refused by its rules.
fn is_served(process: &Process) {
    let call = RawCall::begin(process.address, GET_TITLE, &[("grpc-timeout", "10S")]);
    assert_eq!(call.finish(b"").code, INVALID_ARGUMENT);
}

fn in_flight(process: &Process, method: &str, calls: usize) {
    let gauge = format!(r#"grpc_method="{method}"}} {calls}"#);
    let flies = |line: &str| line.starts_with("grpc_server_in_flight") && line.ends_with(&gauge);
    eventually(&gauge, || process.http("/metrics").lines().any(flies).then_some(()));
}

#[test]
fn clients_that_dribble_hold_up_nobody() {
    let process = Process::start("monolith", &[]);
    let connection = RawConnection::open(process.address);
    let half: Vec<_> = (0..50).map(|_| connection.call(GET_TITLE, &[])).collect();
    in_flight(&process, "GetTitle", half.len());

    // Each says a little at once, and goes on with a byte now and then.
    let head = b"GET /healthz HTTP/1.1\r\nhost: test\r\nx: ";
    let frame = [HTTP_2, &[0, 50, 0, 1, 4, 0, 0, 0, 1, 0x83]].concat();
    let mut slow = Vec::new();
    for start in [&b""[..], &HTTP_2[..10], HTTP_2, &frame, &head[..4], head] {
        for _ in 0..25 {
            let mut stream = TcpStream::connect(process.address).expect("it listens");
            stream.write_all(start).expect("it takes a little");
            slow.push(stream);
        }
    }
    let (served, until_served) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while until_served.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
                for stream in &mut slow {
                    // One that has been given up is not to be mourned.
                    let _ = stream.write_all(b"a");
                }
            }
        });
        for _ in 0..50 {
            is_served(&process);
        }
        drop(served);
    });

    let first = half.into_iter().next().expect("a call");
    assert_eq!(first.finish(b"").code, INVALID_ARGUMENT, "and who goes on is served");
}

/// HEADERS that begin a call and RST_STREAM that takes it back, on stream after stream.
fn begun_and_reset(calls: u32) -> Vec<u8> {
    let mut bytes = HTTP_2.to_vec();
    // POST, http, a path, a content type: HPACK without a table and without Huffman's code.
    let mut head = vec![0x83, 0x86, 0x04, GET_TITLE.len() as u8];
    head.extend_from_slice(GET_TITLE.as_bytes());
    head.extend_from_slice(&[0x0f, 0x10, 16]);
    head.extend_from_slice(b"application/grpc");
    for call in 0..calls {
        let stream = (2 * call + 1).to_be_bytes();
        bytes.extend_from_slice(&[0, 0, head.len() as u8, 1, 4]);
        bytes.extend_from_slice(&stream);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&[0, 0, 4, 3, 0]);
        bytes.extend_from_slice(&stream);
        bytes.extend_from_slice(&8_u32.to_be_bytes());
    }
    bytes
}

#[test]
fn a_client_that_resets_what_it_begins_loses_its_connection() {
    let process = Process::start("monolith", &[]);
    let flood = begun_and_reset(20_000);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(process.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        // Fails when the connection is closed, which may be long before the end.
        let _ = stream.write_all(&flood);
        let closed = stream.read_to_end(&mut Vec::new());
        let in_time = |error: &std::io::Error| !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(closed.as_ref().err().is_none_or(in_time), "still open: {closed:?}");
        is_served(&process);
    }
    in_flight(&process, "GetTitle", 0);
}

#[test]
fn a_call_that_is_taken_back_is_worked_on_no_more() {
    let process = Process::start("monolith", &[]);
    let connection = RawConnection::open(process.address);
    let call = connection.call(GET_TITLE, &[]);
    in_flight(&process, "GetTitle", 1);
    call.reset();
    in_flight(&process, "GetTitle", 0);
    let metrics = process.http("/metrics");
    assert!(metrics.contains(r#"grpc_method="GetTitle",grpc_code="Canceled"} 1"#), "{metrics}");
    assert!(!process.log().contains("ERROR"), "and no alarm: {}", process.log());
    assert_eq!(connection.call(GET_TITLE, &[]).finish(b"").code, INVALID_ARGUMENT, "the connection goes on");
}

#[test]
fn headers_have_an_end() {
    let process = Process::start("monolith", &[]);
    let long = "a".repeat(17 * 1024);
    let connection = RawConnection::open(process.address);
    let beside = connection.call(GET_TITLE, &[]);
    assert_eq!(connection.call(GET_TITLE, &[("x-long", &long)]).refused(), 431);
    assert_eq!(beside.finish(b"").code, INVALID_ARGUMENT, "nothing has happened to the call beside it");

    let answer = process.http_with("/healthz", &format!("x-long: {long}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = process.http_with("/healthz", &format!("x-long: {}\r\n", &long[..8 * 1024]));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_connection_grows_old_and_what_it_carries_ends_well() {
    let limits = [("MESH__LIMITS__CONNECTION_AGE", "1s"), ("MESH__LIMITS__CONNECTION_GRACE", "2s")];
    let process = Process::start("monolith", &limits);
    let connection = RawConnection::open(process.address);
    let call = connection.call(GET_TITLE, &[]);
    let mut stream = connection.call(WATCH_HEALTH, &[]);
    let start = Instant::now();
    stream.send(b"");
    let ended = stream.ended();
    assert_eq!(ended.code, UNAVAILABLE, "the stream is ended in gRPC's words");
    assert!(!ended.body.is_empty(), "what was there before was delivered");
    assert!(start.elapsed() >= Duration::from_secs(2), "it had its grace");
    // By now new calls go elsewhere, and this one has been there since before.
    assert_eq!(call.finish(b"").code, INVALID_ARGUMENT, "a call is finished");
    is_served(&process);
}
