//! An app of HTTP/1.1: what reaches it, and what does not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use harness::Process;
use serde_json::{Value, json};

use super::{app, beside, exchange};

type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// An app of ratings, its sidecar, and what the app has received.
fn ratings(answer: &'static str) -> (Process, Seen) {
    let (address, seen) = app(move |_| answer.as_bytes().to_vec());
    let more = [("MESH__SIDECAR__PROTOCOL", "http1"), ("MESH__LOG__LEVEL", "info")];
    let sidecar = beside(address, "ratings", &more);
    (sidecar, seen)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nmesh-caller: user/forged\r\nconnection: close, x-own\r\n\
    x-own: 1\r\ngrpc-status: 0\r\nx-other: 1\r\n\r\nok";

/// The requests that the app has received, each as text without what differs from run to run.
fn requests(seen: &Seen) -> Vec<String> {
    let all = seen.lock().expect("no test panicked with it");
    let text = all.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    text.map(|text| {
        let lines =
            text.split("\r\n").filter(|line| !line.starts_with("traceparent") && !line.starts_with("grpc-timeout"));
        lines.collect::<Vec<_>>().join("\n")
    })
    .collect()
}

#[test]
fn request_reaches_the_app_as_it_is_and_no_identity_with_it() {
    let (sidecar, seen) = ratings(OK);
    let request = "PUT /ratings/1?a=b%20c HTTP/1.1\r\nHost: ratings\r\nContent-Length: 4\r\nX-Request-Id: 7\r\n\
        Connection: close, X-Own, Mesh-Caller\r\nX-Own: 1\r\nUpgrade: websocket\r\nTE: trailers\r\n\
        Mesh-Caller: user/forged\r\nMesh-Passport: forged\r\nmesh_caller: user/forged\r\nX-Mesh-User: forged\r\n\
        X-Forwarded-Client-Cert: forged\r\n\r\nbody";
    let answer = exchange(sidecar.address, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(answer.contains("x-other: 1"), "{answer}");
    for forged in ["mesh-caller", "x-own", "grpc-status"] {
        assert!(!answer.contains(forged), "{forged}: {answer}");
    }
    let golden = "PUT /ratings/1?a=b%20c HTTP/1.1\nhost: ratings\ncontent-length: 4\nx-request-id: 7\nmesh-caller: anonymous\n\nbody";
    assert_eq!(requests(&seen), [golden]);
}

#[test]
fn ambiguous_request_reaches_no_app() {
    let (sidecar, seen) = ratings(OK);
    for (name, head, status) in [
        ("TRACE", "TRACE / HTTP/1.1\r\nHost: ratings\r\n", "405"),
        ("CONNECT", "CONNECT ratings:80 HTTP/1.1\r\nHost: ratings:80\r\n", "405"),
        ("no host", "GET / HTTP/1.1\r\n", "400"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: ratings\r\nHost: other\r\n", "400"),
        ("a user in the host", "GET / HTTP/1.1\r\nHost: evil@ratings\r\n", "400"),
        ("an address of another host", "GET http://ratings/ HTTP/1.1\r\nHost: other\r\n", "400"),
        ("two lengths", "POST / HTTP/1.1\r\nHost: ratings\r\nContent-Length: 1\r\nContent-Length: 2\r\n", "400"),
        ("a list of lengths", "POST / HTTP/1.1\r\nHost: ratings\r\nContent-Length: 1, 2\r\n", "400"),
        ("a signed length", "POST / HTTP/1.1\r\nHost: ratings\r\nContent-Length: +5\r\n", "400"),
        ("a hexadecimal length", "POST / HTTP/1.1\r\nHost: ratings\r\nContent-Length: 0x5\r\n", "400"),
        ("another coding", "POST / HTTP/1.1\r\nHost: ratings\r\nTransfer-Encoding: gzip, chunked\r\n", "400"),
        ("identity and chunked", "POST / HTTP/1.1\r\nHost: ratings\r\nTransfer-Encoding: identity, chunked\r\n", "400"),
        ("a coding behind chunked", "POST / HTTP/1.1\r\nHost: ratings\r\nTransfer-Encoding: chunked, gzip\r\n", "400"),
        ("HTTP/1.0 with chunks", "POST / HTTP/1.0\r\nHost: ratings\r\nTransfer-Encoding: chunked\r\n", "400"),
        ("a space before the colon", "GET / HTTP/1.1\r\nHost : ratings\r\n", "400"),
        ("a folded line", "GET / HTTP/1.1\r\nHost: ratings\r\nX-A: 1\r\n 2\r\n", "400"),
        ("a bare CR", "GET / HTTP/1.1\r\nHost: ratings\r\nX-A: 1\r2\r\n", "400"),
        ("NUL", "GET / HTTP/1.1\r\nHost: ratings\r\nX-A: \0\r\n", "400"),
    ] {
        let hidden = "0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: ratings\r\nConnection: close\r\n\r\n";
        let answer = exchange(sidecar.address, format!("{head}Connection: close\r\n\r\n{hidden}").as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")) || answer.starts_with("HTTP/1.0 400"),
            "{name}: {answer}"
        );
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{name}: {answer}");
    }
    assert_eq!(requests(&seen), [""; 0]);
}

#[test]
fn request_with_a_length_and_chunks_is_one_request() {
    let (sidecar, seen) = ratings(OK);
    let smuggled = "POST /one HTTP/1.1\r\nHost: ratings\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\n\r\nGET /two HTTP/1.1\r\nHost: ratings\r\n\r\n";
    let answer = exchange(sidecar.address, smuggled.as_bytes());
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let all = requests(&seen);
    assert!(all.len() == 1 && all[0].starts_with("POST /one "), "{all:?}");
    assert!(all[0].contains("transfer-encoding: chunked") && !all[0].contains("content-length"), "{all:?}");
}

#[test]
fn trailers_of_a_request_reach_no_app() {
    let (sidecar, seen) = ratings(OK);
    let request = "POST / HTTP/1.1\r\nHost: ratings\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nTrailer: mesh-caller\r\n\r\n\
        3\r\nabc\r\n0\r\nmesh-caller: user/forged\r\n\r\n";
    assert!(exchange(sidecar.address, request.as_bytes()).starts_with("HTTP/1.1 200"));
    assert!(!requests(&seen)[0].contains("forged"), "{:?}", requests(&seen));
}

#[test]
fn answer_that_breaks_off_is_no_whole_one_and_an_app_that_is_gone_is_503() {
    let (sidecar, _) = ratings("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    let get = "GET / HTTP/1.1\r\nHost: ratings\r\nConnection: close\r\n\r\n";
    let answer = exchange(sidecar.address, get.as_bytes());
    assert!(answer.contains("content-length: 100") && answer.ends_with("half"), "it must not look complete: {answer}");

    let (sidecar, _) = ratings("garbage\r\n\r\n");
    let answer = exchange(sidecar.address, get.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("APP_LOST"), "{answer}");
}

/// A sidecar whose app may call ratings at these addresses, and its outbound address.
fn caller_of(ratings: &[&Process]) -> (Process, SocketAddr) {
    let (unused, _) = app(|_| Vec::new());
    let ratings: Vec<_> = ratings.iter().map(|ratings| ratings.address.to_string()).collect();
    let ratings = ratings.join(",");
    let more = [
        ("MESH__SIDECAR__PROTOCOL", "http1"),
        ("MESH__SIDECAR__PEERS", "ratings"),
        ("MESH__REGISTRY", "static"),
        ("MESH__STATIC__RATINGS", &*ratings),
    ];
    let caller = beside(unused, "shop", &more);
    let outbound = caller.listener("outbound");
    (caller, outbound)
}

/// A request to ratings, with headers that nobody may set.
fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: ratings\r\nMesh-Caller: user/forged\r\nConnection: close\r\n\r\n")
}

#[test]
fn app_calls_a_service_of_http_by_its_name() {
    let (ratings, seen) = ratings(OK);
    let (caller, outbound) = caller_of(&[&ratings]);
    let answer = exchange(outbound, request("GET /ratings/1").as_bytes());
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok") && !answer.contains("grpc-status"),
        "{answer}"
    );
    assert!(!requests(&seen)[0].contains("forged"), "{:?}", requests(&seen));

    // Its sidecar is gone.
    drop(ratings);
    let answer = exchange(outbound, request("GET /ratings/1").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    drop(caller);
}

#[test]
fn answers_of_http_pass_as_they_are() {
    // The code is in the path.
    let (address, _) = app(|request| {
        let code =
            String::from_utf8_lossy(&request[request.iter().position(|byte| *byte == b'/').unwrap_or(0) + 1..][..3])
                .into_owned();
        let body = if code == "204" { "" } else { "text" };
        format!("HTTP/1.1 {code} Words\r\ncontent-length: {}\r\nlocation: /x\r\n\r\n{body}", body.len()).into_bytes()
    });
    let ratings = beside(address, "ratings", &[("MESH__SIDECAR__PROTOCOL", "http1")]);
    let (caller, outbound) = caller_of(&[&ratings]);
    for code in ["200", "201", "204", "302", "400", "404", "409", "429", "500"] {
        for line in [format!("GET /{code}"), format!("POST /{code}"), format!("DELETE /{code}")] {
            let answer = exchange(outbound, request(&line).as_bytes());
            let body = if code == "204" { "" } else { "text" };
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {code}")) && answer.ends_with(&format!("\r\n\r\n{body}")),
                "{line}: {answer}"
            );
            assert!(answer.contains("location: /x") && !answer.contains("grpc-"), "{line}: {answer}");
        }
    }
    assert!(!caller.log().contains("ejected"), "{}", caller.log());
    let admin = caller.listener("admin");
    let metrics = exchange(admin, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let line = |method: &str, code: &str, count: usize| {
        let labels =
            format!(r#"{{grpc_service="ratings",grpc_method="{method}",grpc_code="{code}",caller="shop"}} {count}"#);
        assert!(metrics.contains(&format!("grpc_client_handled_total{labels}")), "{labels}: {metrics}");
    };
    line("HTTP read", "NotFound", 1);
    line("HTTP", "Aborted", 2);
    line("HTTP", "OK", 8);
    // A dashboard sees the same, at both sidecars.
    for (sidecar, side, caller, codes) in
        [(&ratings, "SIDE_SERVER", Value::Null, 5), (&caller, "SIDE_CLIENT", json!("shop"), 5)]
    {
        let request = json!({"problems": true, "method": "ratings/HTTP read"});
        let kept = sidecar.grpcurl().call("mesh.inspect.v1.InspectService/ListCalls", &request).json();
        let kept = kept["calls"].as_array().expect("calls");
        let right = |call: &Value| call["side"] == side && call["caller"] == caller && call["callee"] == "ratings";
        assert!(kept.len() == codes && kept.iter().all(right), "{kept:?}");
    }
}

#[test]
fn read_is_repeated_at_another_instance_and_a_write_is_not() {
    let (broken, broken_seen) = app(|_| Vec::new());
    let more = [("MESH__SIDECAR__PROTOCOL", "http1")];
    let broken = beside(broken, "ratings", &more);
    let (ratings, _) = ratings(OK);
    let (_caller, outbound) = caller_of(&[&broken, &ratings]);
    // Two of three writes at most reach the broken one before it is ejected.
    let mut failed = 0;
    for _ in 0..20 {
        let answer = exchange(outbound, request("GET /ratings/1").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let written = exchange(outbound, request("DELETE /ratings/1").as_bytes());
        failed += usize::from(written.starts_with("HTTP/1.1 503"));
    }
    let writes = broken_seen.lock().unwrap().iter().filter(|request| request.starts_with(b"DELETE")).count();
    assert_eq!(writes, failed, "a write was repeated, or its failure hidden");
}

#[test]
fn request_that_breaks_off_is_no_whole_one() {
    for (name, rest) in [("ends", ""), ("has a bad chunk", "zz\r\n")] {
        let (sidecar, seen) = ratings(OK);
        let head = "POST / HTTP/1.1\r\nHost: ratings\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let mut caller = std::net::TcpStream::connect(sidecar.address).unwrap();
        std::io::Write::write_all(&mut caller, format!("{head}{rest}").as_bytes()).unwrap();
        caller.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        let _ = std::io::Read::read_to_string(&mut caller, &mut answer);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        let whole = requests(&seen).iter().any(|request| request.ends_with("0\n\n"));
        assert!(!whole, "{name}: {:?}", requests(&seen));
    }
}

#[test]
fn body_of_a_read_arrives_and_a_target_is_a_path() {
    let (sidecar, seen) = ratings(OK);
    let read = "GET /search HTTP/1.1\r\nHost: ratings\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    assert!(exchange(sidecar.address, read.as_bytes()).starts_with("HTTP/1.1 200"));
    assert!(requests(&seen)[0].contains("hello"), "{:?}", requests(&seen));
    let star = exchange(sidecar.address, b"OPTIONS * HTTP/1.1\r\nHost: ratings\r\nConnection: close\r\n\r\n");
    assert!(star.starts_with("HTTP/1.1 400"), "{star}");
    assert_eq!(requests(&seen).len(), 1);
}

#[test]
fn answer_has_one_length() {
    for (answer, expected) in [
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", "HTTP/1.1 304"),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nxx", "HTTP/1.1 204"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n4\r\ntext\r\n0\r\n\r\n",
            "HTTP/1.1 200",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n4\r\ntext\r\n0\r\n\r\n", "HTTP/1.1 503"),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 503"),
    ] {
        let (sidecar, _) = ratings(answer);
        let found = exchange(sidecar.address, request("GET /").as_bytes());
        assert!(found.starts_with(expected), "{answer}: {found}");
        assert!(!expected.ends_with("200") || found.contains("text"), "{answer}: {found}");
    }
}

/// The resident memory of a process in bytes.
#[cfg(target_os = "linux")]
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

#[test]
#[cfg(target_os = "linux")]
fn answers_that_nobody_reads_wait_at_the_app() {
    const LARGE: usize = 50 * 1024 * 1024;
    let (address, _) = app(|request| {
        let length = if request.starts_with(b"GET /large") { LARGE } else { 2 };
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, b'a');
        answer
    });
    let ratings = beside(address, "ratings", &[("MESH__SIDECAR__PROTOCOL", "http1")]);
    let (caller, outbound) = caller_of(&[&ratings]);
    assert!(exchange(outbound, request("GET /small").as_bytes()).ends_with("aa"));
    let before = [&ratings, &caller].map(resident);

    // More than the windows of one connection would hold by default.
    let mut all: Vec<_> = (0..8)
        .map(|_| {
            let mut stopped = std::net::TcpStream::connect(outbound).unwrap();
            std::io::Write::write_all(&mut stopped, request("GET /large").as_bytes()).unwrap();
            std::io::Read::read_exact(&mut stopped, &mut [0; 64]).unwrap();
            stopped
        })
        .collect();
    // Others have theirs meanwhile, again and again, on the same connections.
    for _ in 0..100 {
        assert!(exchange(outbound, request("GET /small").as_bytes()).ends_with("aa"));
    }
    let after = [&ratings, &caller].map(resident);
    for (before, after) in before.iter().zip(after) {
        assert!(after < before + 32 * 1024 * 1024, "{before} bytes before, {after} with answers of 400 MiB");
    }
    // The rest arrives whole.
    let (mut rest, mut stopped) = (Vec::new(), all.pop().expect("one of them"));
    std::io::Read::read_to_end(&mut stopped, &mut rest).unwrap();
    assert!(rest.len() > LARGE && rest.iter().rev().take(LARGE - 1024).all(|byte| *byte == b'a'), "{}", rest.len());
}
