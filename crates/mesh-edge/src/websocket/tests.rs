//! Sockets over a connection in memory, before a handler that sends each request back.

mod autobahn; // a suite of others for the protocol
mod mutated; // frames that were changed at random
mod peer; // the client, and the edge that it talks to

use super::*;
use mesh_rpc::call::Connection;
use peer::Peer;
use tokio_util::sync::CancellationToken;

/// A text frame.
const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const CLOSE: u8 = 0x88;

#[tokio::test]
async fn each_text_is_a_request_and_each_answer_a_text() {
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    for text in ["a", "b"] {
        peer.send(TEXT, format!("{{\"text\": \"{text}\"}}")).await;
        assert_eq!(peer.text().await, format!("{{\"room\":\"7\",\"text\":\"{text}\"}}"), "the path has the room");
    }
    peer.send(TEXT, "").await;
    assert_eq!(peer.closed().await, (1000, String::new()), "the stream of requests has ended, and so has the call");
}

#[tokio::test]
async fn more_requests_than_wait_for_the_service_do_not_stop_the_answers() {
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    let count = 200 * WAITING;
    for number in 0..count {
        peer.send(TEXT, format!("{{\"text\": \"{number}\"}}")).await;
    }
    for number in 0..count {
        assert_eq!(peer.text().await, format!("{{\"room\":\"7\",\"text\":\"{number}\"}}"));
    }
}

#[tokio::test]
async fn answer_larger_than_a_request_may_be_arrives() {
    let mut peer = Peer::open("/v1/rooms/7:count?text=500000").await;
    assert_eq!(peer.text().await.len(), 500_000 + "{\"room\":\"\",\"text\":\"\"}".len());
    assert_eq!(peer.closed().await.0, 1000);
}

#[tokio::test]
async fn stream_of_requests_has_one_answer_at_its_end() {
    let mut peer = Peer::open("/v1/rooms/7:join").await;
    peer.send(TEXT, "{\"text\": \"a\"}").await;
    peer.send(TEXT, "").await;
    assert_eq!(peer.text().await, "{\"room\":\"7\",\"text\":\"a\"}");
    assert_eq!(peer.closed().await.0, 1000);
}

#[tokio::test]
async fn socket_ends_with_its_connection() {
    for path in ["/v1/rooms/7:join", "/v1/rooms/7:talk"] {
        let ending = CancellationToken::new();
        let mut peer = Peer::open_over(Connection::new(ending.clone(), None, CancellationToken::new()), path).await;
        peer.send(TEXT, "{\"text\": \"a\"}").await;
        peer.send(PING, "").await;
        ending.cancel();
        let close = loop {
            let (first, payload) = peer.frame().await;
            if first == CLOSE {
                break payload;
            }
        };
        assert_eq!(close[..2], [0x03, 0xf4], "1012: {path}");
    }
}

#[tokio::test]
async fn socket_that_takes_no_message_reads_no_large_one() {
    let mut peer = Peer::open("/v1/rooms/7:count?text=0").await;
    peer.send(0x01, vec![b' '; UNREAD + 1]).await;
    assert_eq!(peer.closed().await.0, 1009, "nothing would count a message that does not end");
}

#[tokio::test]
async fn mistakes_in_a_request_close_the_socket() {
    let deep = format!("{{\"extra\": {}1{}}}", "[".repeat(400), "]".repeat(400));
    for (name, text) in [
        ("no JSON", "text"),
        ("an unknown field", "{\"texts\": 1}"),
        ("a lone surrogate", "{\"text\": \"\\ud800\"}"),
        ("too deep", &deep),
        ("two documents", "{}{}"),
    ] {
        let mut peer = Peer::open("/v1/rooms/7:talk").await;
        peer.send(TEXT, text).await;
        let (code, reason) = peer.closed().await;
        assert!(code == 4003 && !reason.is_empty(), "{name}: {code} {reason}");
    }
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    peer.send(TEXT, "").await;
    peer.send(TEXT, "{}").await;
    assert!([1000, 4003].contains(&peer.closed().await.0), "a request behind the end");
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    peer.send(0x82, "{}").await;
    assert_eq!(peer.closed().await.0, 4003, "a binary frame");
}

#[tokio::test]
async fn frames_that_break_the_protocol_close_the_socket() {
    let [continuation, part, text] = [0x80, 0x01, TEXT];
    for (name, frames, code) in [
        ("a reserved bit", vec![(text | 0x40, vec![])], 1002),
        ("a reserved opcode", vec![(0x83, vec![])], 1002),
        ("a reserved control opcode", vec![(0x8b, vec![])], 1002),
        ("a continuation of nothing", vec![(continuation, vec![])], 1002),
        ("a text within another", vec![(part, vec![]), (text, vec![])], 1002),
        ("a fragmented ping", vec![(0x09, vec![])], 1002),
        ("a long ping", vec![(PING, vec![0; 126])], 1002),
        ("text that is not UTF-8", vec![(text, vec![0xff])], 1007),
        ("a character that is cut off", vec![(part, vec![0xc3]), (continuation, vec![])], 1007),
        ("a frame over the limit", vec![(text, vec![b' '; 2000])], 1009),
        ("a message over the limit", vec![(part, vec![b' '; 600]), (continuation, vec![b' '; 600])], 1009),
        ("a close code of one byte", vec![(CLOSE, vec![3])], 1002),
        ("a close code that is reserved", vec![(CLOSE, vec![0x03, 0xed])], 1002),
        ("a close reason that is not UTF-8", vec![(CLOSE, vec![0x03, 0xe8, 0xff])], 1007),
    ] {
        let mut peer = Peer::open("/v1/rooms/7:talk").await;
        for (first, payload) in frames {
            peer.send(first, payload).await;
        }
        assert_eq!(peer.closed().await.0, code, "{name}");
    }
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    peer.bytes(&[TEXT, 2, b'{', b'}']).await;
    assert_eq!(peer.closed().await.0, 1002, "a frame without a mask");
}

#[tokio::test]
async fn frame_that_is_refused_is_read_to_its_end() {
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    peer.send(TEXT, vec![b' '; 2 * peer::BUFFER]).await;
    assert_eq!(peer.closed().await.0, 1009, "a client reads the close when it has sent its frame");
}

#[tokio::test]
async fn fragments_are_one_request_and_pings_between_them_are_answered() {
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    peer.send(0x01, "{\"text\":").await;
    peer.send(PING, "hello").await;
    assert_eq!(peer.frame().await, (0x8a, b"hello".to_vec()));
    peer.send(0x00, b" \"\xc3").await;
    peer.send(0x8a, "a pong that nobody asked for").await;
    peer.send(0x80, b"\xa9\"}").await;
    assert_eq!(peer.text().await, "{\"room\":\"7\",\"text\":\"é\"}", "a character may be in two frames");
    peer.send(CLOSE, [0x0f, 0xa0]).await;
    assert_eq!(peer.closed().await.0, 4000, "a close is answered with its code");
}

#[tokio::test(start_paused = true)]
async fn pongs_that_a_client_does_not_take_hold_up_its_pings() {
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    let sent = timeout(STALLED / 2, async {
        for _ in 0..4 * peer::BUFFER / 125 {
            peer.send(PING, [0; 125]).await;
        }
    });
    assert!(sent.await.is_err(), "they would fill the memory");
    assert!(peer.pongs_until_the_end().await > 0, "the client is cut off in the end");
}

#[tokio::test]
async fn handshake_has_a_version_and_a_key() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let upgrade = "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    for (name, headers, status) in [
        ("all", format!("{upgrade}{version}{key}"), 101),
        ("no version", format!("{upgrade}{key}"), 400),
        ("another version", format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n"), 400),
        ("no key", format!("{upgrade}{version}"), 400),
        ("a short key", format!("{upgrade}{version}Sec-WebSocket-Key: AAAA\r\n"), 400),
        ("two keys", format!("{upgrade}{version}{key}{key}"), 400),
        ("no upgrade", String::new(), 426),
        ("a foreign page", format!("{upgrade}{version}{key}Origin: https://evil.example\r\n"), 403),
        ("a page that hides", format!("{upgrade}{version}{key}Origin: null\r\n"), 403),
    ] {
        let answer = Peer::ask("/v1/rooms/7:talk", &headers).await.1;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {answer}");
        let offers = |header: &str| answer.contains(&format!("\r\n{header}\r\n"));
        assert_eq!(offers("upgrade: websocket"), [101, 426].contains(&status), "{name}: {answer}");
        let is_malformed = status == 400 && name != "two keys";
        assert_eq!(offers("sec-websocket-version: 13"), is_malformed, "{name}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn client_that_answers_no_close_is_left_soon() {
    let mut peer = Peer::open("/v1/rooms/7:talk").await;
    peer.send(TEXT, "").await;
    assert_eq!(peer.frame().await.0, CLOSE);
    let start = Instant::now();
    assert!(peer.ended().await);
    assert!(start.elapsed() <= CLOSING, "{:?}", start.elapsed());
}

#[test]
fn close_codes_tell_success_restart_and_failure_apart() {
    assert_eq!(u16::from(code(&Status::ok(""))), 1000);
    assert_eq!(u16::from(code(&Status::unavailable(""))), 1012);
    assert_eq!(u16::from(code(&Status::not_found(""))), 4005);
}

#[test]
fn close_reason_fits_its_frame() {
    assert_eq!(reason("no such title"), "no such title");
    assert_eq!(reason(&"é".repeat(100)), "é".repeat(61));
}

#[test]
fn websocket_is_told_from_other_requests() {
    let asked = |method: &str, connection: &str, upgrade: &str| {
        let request = http::Request::builder().method(method).header(CONNECTION, connection).header(UPGRADE, upgrade);
        is_asked_for(&request.body(()).unwrap().into_parts().0)
    };
    assert!(asked("GET", "keep-alive, Upgrade", "WebSocket"));
    assert!(!asked("POST", "upgrade", "websocket") && !asked("GET", "close", "websocket"));
    assert!(!asked("GET", "upgrade", "h2c"));
}
