//! Heads of requests that are ambiguous or ask for what no listener does: raw bytes, in HTTP/1.1 and HTTP/2, at each
//! listener.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use harness::{LIMIT, Process};

/// The listeners of one process.
fn listeners() -> (Process, [SocketAddr; 3]) {
    let more = [("MESH__ADMIN__LISTEN", "127.0.0.1:0"), ("MESH__EDGE__LISTEN", "127.0.0.1:0")];
    let process = Process::start("monolith", &more);
    // In the order in which they are printed.
    let (admin, edge) = (process.listener("admin"), process.listener("edge"));
    let all = [process.address, admin, edge];
    (process, all)
}

/// Sends bytes, and returns what comes until the server closes the connection.
fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(bytes).expect("it reads");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn heads_that_are_ambiguous_are_refused_in_http_1() {
    let (process, all) = listeners();
    let close = "Connection: close\r\n";
    for address in all {
        for (name, head, status) in [
            ("TRACE", "TRACE /readyz HTTP/1.1\r\nHost: localhost\r\n", "405"),
            ("CONNECT", "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n", "405"),
            ("no host", "GET /readyz HTTP/1.1\r\n", "400"),
            ("two hosts", "GET /readyz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", "400"),
            ("two hosts that differ", "GET /readyz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n", "400"),
            ("a user in the host", "GET /readyz HTTP/1.1\r\nHost: evil@localhost\r\n", "400"),
            ("a path in the host", "GET /readyz HTTP/1.1\r\nHost: localhost/x\r\n", "400"),
            ("a user in the address", "GET http://evil@localhost/readyz HTTP/1.1\r\nHost: localhost\r\n", "400"),
            ("an address of another host", "GET http://localhost/readyz HTTP/1.1\r\nHost: evil.example\r\n", "400"),
            ("an address without a host", "GET http://localhost/readyz HTTP/1.1\r\n", "400"),
            (
                "two codings",
                "GET /readyz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity, chunked\r\n",
                "400",
            ),
            (
                "two lengths",
                "GET /readyz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
                "400",
            ),
            ("a space before the colon", "GET /readyz HTTP/1.1\r\nHost : localhost\r\n", "400"),
        ] {
            let answer = exchange(address, format!("{head}{close}\r\n0\r\n\r\n").as_bytes());
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name} at {address}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name} at {address}: {answer}");
        }
        // The port of the scheme may be left out, and probes speak HTTP/1.0.
        for head in [
            "GET /readyz HTTP/1.1\r\nHost: LOCALHOST:80\r\n",
            "GET http://localhost/readyz HTTP/1.1\r\nHost: localhost:80\r\n",
            "GET /readyz HTTP/1.0\r\nHost: localhost\r\n",
        ] {
            let answer = exchange(address, format!("{head}{close}\r\n").as_bytes());
            let answer = String::from_utf8_lossy(&answer);
            let refused = ["400", "405"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}")));
            assert!(answer.starts_with("HTTP/1.") && !refused, "{head} at {address}: {answer}");
        }
        // Behind an upgrade that is ignored comes another request of HTTP/1.1.
        let upgrade = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                       Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n";
        let next = format!("GET /readyz HTTP/1.1\r\nHost: localhost\r\n{close}\r\n");
        let answer = exchange(address, format!("{upgrade}{next}").as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.matches("HTTP/1.1 ").count() == 2 && !answer.contains("HTTP/1.1 101"), "{address}: {answer}");
    }
    assert!(!process.log().contains("panicked"), "{}", process.log());
}

/// The answer to a request of HTTP/2 with these headers.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A status that the static table of HPACK has.
    Status(u16),
    /// Another one: 405.
    OtherStatus,
    /// The stream or the connection ends without an answer.
    Reset,
}

fn http_2(address: SocketAddr, headers: &[(&str, &str)]) -> Answer {
    let mut block = Vec::new();
    for (name, value) in headers {
        // A literal that is not indexed, without Huffman's code.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("a short text"));
            block.extend(text.as_bytes());
        }
    }
    let length = u8::try_from(block.len()).expect("a short head");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // HEADERS with END_HEADERS and END_STREAM, and GOAWAY: the server closes the connection behind the answer.
    bytes.extend([0, 0, length, 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes.extend([0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let answer = exchange(address, &bytes);
    let mut rest = &answer[..];
    while let [high, middle, low, kind, _, _, _, _, stream, payload @ ..] = rest {
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        let Some((payload, after)) = payload.split_at_checked(length) else { break };
        match (kind, stream, payload) {
            (1, 1, [0x88, ..]) => return Answer::Status(200),
            (1, 1, [0x8c, ..]) => return Answer::Status(400),
            (1, 1, [0x8d, ..]) => return Answer::Status(404),
            (1, 1, _) => return Answer::OtherStatus,
            _ => rest = after,
        }
    }
    Answer::Reset
}

#[test]
fn heads_that_are_ambiguous_are_refused_in_http_2() {
    let (process, all) = listeners();
    let get = [(":method", "GET"), (":scheme", "http"), (":path", "/healthz")];
    let grpc = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for address in all {
        for request in [&get[..], &grpc[..]] {
            let with = |more: &[(&str, &str)]| {
                // Pseudo headers come first.
                let all = [request, more].concat();
                let (mut pseudo, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name.starts_with(':'));
                pseudo.extend(rest);
                http_2(address, &pseudo)
            };
            for good in [
                &[(":authority", "localhost")][..],
                &[(":authority", "localhost"), ("host", "localhost")],
                &[("host", "localhost")],
            ] {
                let answer = with(good);
                assert!(matches!(answer, Answer::Status(200 | 404)), "{good:?} at {address}: {answer:?}");
            }
            for (name, more, expected) in [
                ("no name", &[][..], Answer::Status(400)),
                ("two names", &[(":authority", "localhost"), ("host", "evil.example")], Answer::Status(400)),
                ("a user", &[(":authority", "evil@localhost")], Answer::Status(400)),
                ("a user in host", &[(":authority", "localhost"), ("host", "evil@localhost")], Answer::Status(400)),
                (
                    "two hosts",
                    &[(":authority", "localhost"), ("host", "localhost"), ("host", "localhost")],
                    Answer::Status(400),
                ),
                ("two authorities", &[(":authority", "localhost"), (":authority", "localhost")], Answer::Reset),
                ("a coding", &[(":authority", "localhost"), ("transfer-encoding", "chunked")], Answer::Reset),
                ("a header of connections", &[(":authority", "localhost"), ("connection", "close")], Answer::Reset),
                ("an upgrade", &[(":authority", "localhost"), ("upgrade", "h2c")], Answer::Reset),
                ("capitals", &[(":authority", "localhost"), ("X-A", "b")], Answer::Reset),
            ] {
                assert_eq!(with(more), expected, "{name} at {address}");
            }
        }
        let trace = [(":method", "TRACE"), (":scheme", "http"), (":authority", "localhost"), (":path", "/healthz")];
        assert_eq!(http_2(address, &trace), Answer::OtherStatus, "TRACE at {address}");
        assert_eq!(http_2(address, &[(":method", "CONNECT"), (":authority", "localhost:80")]), Answer::OtherStatus);
        let extended = [&trace[..], &[(":protocol", "websocket")]].concat();
        let extended: Vec<_> =
            extended.iter().map(|(name, value)| (*name, if *name == ":method" { "CONNECT" } else { value })).collect();
        assert_ne!(http_2(address, &extended), Answer::Status(200), "an extended CONNECT at {address}");
    }
    assert!(!process.log().contains("panicked"), "{}", process.log());
}
