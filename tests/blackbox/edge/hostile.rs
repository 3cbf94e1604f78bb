//! What no browser sends, over raw sockets.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use harness::{LIMIT, Process, RawConnection, eventually, uuid};

const SUBSCRIBE: &str = "/v1/services/artwork/operations:subscribe";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Opens a connection and sends bytes.
fn send(process: &Process, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(process.address).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
    stream.write_all(bytes).expect("it reads");
    stream
}

/// Everything that the server sends until it closes the connection.
fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A connection that is closed with bytes unread is reset.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers to requests on one connection.
fn statuses(process: &Process, requests: &str) -> Vec<String> {
    let answers = rest(send(process, requests.as_bytes()));
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].to_owned()).collect()
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n")
}

const CLOSING: &str = "Connection: close\r\n";

/// A failure of the process that its clients do not see.
fn stays_calm(process: &Process) {
    let log = process.log();
    assert!(!["panicked", "\"ERROR\"", "\"WARN\""].iter().any(|word| log.contains(word)), "{log}");
}

#[test]
fn requests_whose_end_is_unclear_end_the_connection() {
    let process = Process::start("monolith", &[]);
    let next = get("/v1/titles", CLOSING);
    for (name, headers, body) in [
        ("two lengths", "Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
        ("a list of lengths", "Content-Length: 2, 2\r\n", "{}"),
        ("a length with a sign", "Content-Length: +2\r\n", "{}"),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("a coding behind chunks", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("a header on two lines", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
    ] {
        let post = format!("POST /v1/titles HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}{next}");
        assert_eq!(statuses(&process, &post), ["400"], "{name}");
    }
    stays_calm(&process);
}

#[test]
fn requests_in_a_row_have_their_answers_in_a_row() {
    let process = Process::start("monolith", &[]);
    let (titles, unknown, last) = (get("/v1/titles", ""), get("/v2", ""), get("/v1/titles", CLOSING));
    let hidden = get("/v1/titles/hidden", "");
    let length = hidden.len();
    let refused = format!("POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{hidden}");
    let head = format!("HEAD{}", &titles[3..]);
    let options = format!("OPTIONS{}", &titles[3..]);
    let row = [&titles, &unknown, &refused, &head, &options, &last].map(String::as_str).concat();
    assert_eq!(statuses(&process, &row), ["200", "404", "404", "200", "405", "200"], "a body is no request");
    // The connection ends behind a body that has a length and chunks.
    let chunked = format!(
        "POST /v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         {length:x}\r\n{hidden}\r\n0\r\nX-Trailer: 1\r\n\r\n{last}"
    );
    assert_eq!(statuses(&process, &chunked), ["404"]);
    stays_calm(&process);
}

#[test]
fn headers_that_are_there_twice_are_refused() {
    let process = Process::start("monolith", &[]);
    for header in [
        "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Idempotency-Key: 1\r\nIdempotency-Key: 2\r\n",
        "If-Match: \"1\"\r\nIf-Match: \"2\"\r\n",
        "Origin: http://localhost\r\nOrigin: https://evil.example\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n",
        "grpc-timeout: 1S\r\ngrpc-timeout: 2S\r\n",
    ] {
        let post = format!("POST /v1/titles HTTP/1.1\r\nHost: localhost\r\n{CLOSING}{header}\r\n");
        let answer = rest(send(&process, post.as_bytes()));
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("REPEATED_HEADER"), "{header}: {answer}");
    }
    assert!(process.http("/metrics").contains("mesh_edge_refused_total{reason=\"REPEATED_HEADER\"} 7"));
}

#[test]
fn refusals_of_grpc_web_are_counted() {
    let process = Process::start("monolith", &[]);
    let post = format!(
        "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: localhost\r\n{CLOSING}\
         Content-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0"
    );
    let answer = rest(send(&process, post.as_bytes()));
    assert!(answer.contains("grpc-status: 12"), "{answer}");
    assert!(process.http("/metrics").contains("mesh_edge_refused_total{reason=\"UNKNOWN_METHOD\"} 1"));
}

#[test]
fn requests_that_are_no_calls_are_refused_at_the_path_of_a_public_method() {
    let process = Process::start("monolith", &[("MESH__EDGE__LISTEN", "127.0.0.1:0")]);
    let outside = RawConnection::open(process.listener("edge"));
    for (method, content_type, status, allow) in [
        ("POST", "application/json", 415, None),
        ("POST", "application/grpc+json", 415, None),
        ("GET", "application/grpc", 405, Some("POST")),
        ("OPTIONS", "text/plain", 405, Some("POST")),
    ] {
        let path = "/catalog.v1.CatalogService/GetTitle";
        let reply = outside.ask(method, path, &[("content-type", content_type)], &[0; 5]);
        assert_eq!((reply.status, reply.header("allow")), (status, allow), "{method} {content_type}: {reply:?}");
    }
}

#[test]
fn grpc_web_calls_are_posts() {
    let process = Process::start("monolith", &[]);
    for (method, status) in [("POST", "200"), ("GET", "405"), ("PUT", "405")] {
        let call = format!(
            "{method} /catalog.v1.CatalogService/CreateTitle HTTP/1.1\r\nHost: localhost\r\n{CLOSING}\
             Content-Type: application/grpc-web\r\nContent-Length: 5\r\n\r\n\0\0\0\0\0"
        );
        assert_eq!(statuses(&process, &call), [status], "{method}");
    }
}

#[test]
fn body_that_is_too_large_is_refused_before_it_is_sent() {
    let process = Process::start("monolith", &[]);
    let head = "POST /v1/titles HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n";
    assert_eq!(statuses(&process, head), ["413"], "and not 100");
}

#[test]
fn uploads_that_do_not_end_leave_memory_to_others() {
    let process = Process::start("monolith", &[]);
    let length = 15 << 20;
    let head = format!(
        "POST /v1/titles/{}/artwork:upload HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n\
         Idempotency-Key: {}\r\nContent-Length: {length}\r\n\r\n",
        uuid(),
        uuid()
    );
    let upload = [head.as_bytes(), &vec![0; length - 1]].concat();
    let mut uploads: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = TcpStream::connect(process.address).expect("it listens");
            // The server may close the connection before all is sent.
            let _ = stream.write_all(&upload);
            stream.set_nonblocking(true).expect("a socket");
            stream
        })
        .collect();
    let mut answer = [0; 12];
    eventually("one is refused", || uploads.iter_mut().find_map(|stream| stream.read_exact(&mut answer).ok()));
    assert_eq!(&answer, b"HTTP/1.1 429", "a client has a quarter of the memory");
}

#[test]
fn waiting_for_an_operation_is_an_open_stream() {
    let process = Process::start("monolith", &[("MESH__EDGE__STREAMS_PER_CLIENT", "1")]);
    let _open = {
        let mut stream = send(&process, get(SUBSCRIBE, "").as_bytes());
        stream.read_exact(&mut [0; 12]).expect("it opens");
        stream
    };
    let wait = get(&format!("/v1/services/artwork/operations/{}:wait", uuid()), CLOSING);
    assert_eq!(statuses(&process, &wait), ["429"]);
}

#[test]
fn event_source_over_its_limit_comes_again() {
    let process = Process::start("monolith", &[("MESH__EDGE__STREAMS_PER_CLIENT", "1")]);
    let mut stream = send(&process, get(SUBSCRIBE, "").as_bytes());
    stream.read_exact(&mut [0; 12]).expect("it opens");
    let answer = rest(send(&process, get(SUBSCRIBE, &format!("Accept: text/event-stream\r\n{CLOSING}")).as_bytes()));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("retry: 5000\nevent: status\n"), "{answer}");
    assert!(process.http("/metrics").contains("mesh_edge_refused_total{reason=\"TOO_MANY_STREAMS\"} 1"));
}

#[test]
fn addresses_of_other_servers_are_refused() {
    let process = Process::start("monolith", &[]);
    for (name, request, status) in [
        ("a whole URL", "GET http://evil.example/v1/titles HTTP/1.1\r\nHost: evil.example\r\n", "421"),
        ("a whole URL of this server", "GET http://localhost/v1/titles HTTP/1.1\r\nHost: localhost\r\n", "200"),
        (
            "a whole URL of this server and another name",
            "GET http://localhost/v1/titles HTTP/1.1\r\nHost: evil.example\r\n",
            "400",
        ),
        ("a tunnel", "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n", "405"),
        ("a name of a user", "GET /v1/titles HTTP/1.1\r\nHost: evil.example@localhost\r\n", "400"),
        ("two names", "GET /v1/titles HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n", "400"),
        ("no name", "GET /v1/titles HTTP/1.1\r\n", "400"),
    ] {
        assert_eq!(statuses(&process, &format!("{request}{CLOSING}\r\n")), [status], "{name}");
    }
}

#[test]
fn requests_that_break_off_leave_nothing() {
    let process = Process::start("monolith", &[]);
    let subscribe = get(SUBSCRIBE, "Accept: text/event-stream\r\n");
    let socket = get(SUBSCRIBE, UPGRADE);
    let post =
        "POST /v1/titles HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{";
    let web = "POST /catalog.v1.CatalogService/CreateTitle HTTP/1.1\r\nHost: localhost\r\n\
               Content-Type: application/grpc-web\r\nContent-Length: 99\r\n\r\n\0\0";
    for _ in 0..100 {
        for bytes in ["GET /v1/titles HT", post, &subscribe, &socket, web] {
            drop(send(&process, bytes.as_bytes()));
        }
    }
    // As many as a client may have at a time: none of those before are counted any more.
    let open: Vec<_> = (0..32)
        .map(|_| {
            eventually("a stream opens", || {
                let mut stream = send(&process, subscribe.as_bytes());
                let mut status = [0; 12];
                stream.read_exact(&mut status).expect("an answer");
                (&status == b"HTTP/1.1 200").then_some(stream)
            })
        })
        .collect();
    assert_eq!(statuses(&process, &get(SUBSCRIBE, CLOSING)), ["429"]);
    drop(open);
    stays_calm(&process);
}

#[test]
fn drain_ends_streams_and_sockets_of_clients_that_do_not_answer() {
    let mut process = Process::start("monolith", &[("MESH__EDGE__STREAMS_PER_CLIENT", "100")]);
    let open = |headers: &str| {
        let mut stream = send(&process, get(SUBSCRIBE, headers).as_bytes());
        stream.read_exact(&mut [0; 12]).expect("it opens");
        stream
    };
    let streams: Vec<_> = (0..50).map(|_| open("Accept: text/event-stream\r\n")).collect();
    let sockets: Vec<_> = (0..50).map(|_| open(UPGRADE)).collect();
    process.signal("TERM");
    let (status, took) = process.ended();
    assert!(status.success() && took < Duration::from_secs(6), "{status} after {took:?}");
    for stream in streams {
        let answer = rest(stream);
        assert!(answer.contains("event: status\n") && answer.ends_with("0\r\n\r\n"), "{answer}");
    }
    for socket in sockets {
        let mut answer = Vec::new();
        let _ = (&socket).read_to_end(&mut answer);
        // A close frame whose payload begins with 1012.
        assert!(answer.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == [0x03, 0xf4]), "{answer:?}");
    }
    stays_calm(&process);
}
