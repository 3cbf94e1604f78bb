//! Slow, hostile and too many clients: the server bounds each of them, and serves the others meanwhile.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use contracts::catalog::v1::{CreateTitleRequest, UpdateTitleRequest};
use contracts::mesh::operations::v1::SubscribeRequest;
use harness::film::tiny_picture;
use harness::{Grpcurl, LIMIT, Process, RawCall, RawConnection, eventually, uuid};
use prost::Message as _;
use serde_json::json;

use super::opening::{free_address, page};

const GET_TITLE: &str = "/catalog.v1.CatalogService/GetTitle";
const CREATE_TITLE: &str = "/catalog.v1.CatalogService/CreateTitle";
const SUBSCRIBE: &str = "/mesh.operations.v1.OperationEventsService/Subscribe";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH_HEALTH: &str = "/grpc.health.v1.Health/Watch";

const OK: &str = "0";
const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";
const NOT_FOUND: &str = "5";
const RESOURCE_EXHAUSTED: &str = "8";
const UNAVAILABLE: &str = "14";

/// The preface of HTTP/2, and an empty SETTINGS frame.
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// Makes an ordinary call with a deadline of 10 s: the catalog refuses a title without an id.
fn is_served(process: &Process) {
    let call = RawCall::begin(process.address, GET_TITLE, &[("grpc-timeout", "10S")]);
    assert_eq!(call.finish(b"").code, INVALID_ARGUMENT);
}

fn in_flight(process: &Process, method: &str, calls: usize) {
    let gauge = format!(r#"grpc_method="{method}"}} {calls}"#);
    // Other services may have methods of that name, at 0 from the start.
    let contracts =
        ["catalog.v1.", "mesh.operations.v1."].map(|own| format!(r#"grpc_server_in_flight{{grpc_service="{own}"#));
    let flies = |line: &str| contracts.iter().any(|own| line.starts_with(own)) && line.ends_with(&gauge);
    eventually(&gauge, || process.http("/metrics").lines().any(flies).then_some(()));
}

#[test]
fn slow_clients_do_not_block_others() {
    let process = Process::start("monolith", &[("MESH__LIMITS__IN_FLIGHT", "2")]);
    // More incomplete requests than there are concurrency permits.
    let connection = RawConnection::open(process.address);
    let half: Vec<_> = (0..50).map(|_| connection.call(GET_TITLE, &[])).collect();
    in_flight(&process, "GetTitle", half.len());

    // Each client sends a few bytes at once, and then one byte now and then.
    let head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ";
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
                    // The server may have closed the connection.
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
    assert_eq!(first.finish(b"").code, INVALID_ARGUMENT, "the completed request is served");
}

/// Pairs of HEADERS and RST_STREAM that start and reset one stream after the other.
fn begun_and_reset(calls: u32) -> Vec<u8> {
    let mut bytes = HTTP_2.to_vec();
    // POST, http, a path, a content type: HPACK without a table and without Huffman coding.
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
fn reset_flood_closes_the_connection() {
    let process = Process::start("monolith", &[]);
    let flood = begun_and_reset(20_000);
    for _ in 0..10 {
        let mut stream = TcpStream::connect(process.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        // The write fails once the server closes the connection, which may be long before the end.
        let _ = stream.write_all(&flood);
        let closed = stream.read_to_end(&mut Vec::new());
        let in_time = |error: &std::io::Error| !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(closed.as_ref().err().is_none_or(in_time), "still open: {closed:?}");
        is_served(&process);
    }
    in_flight(&process, "GetTitle", 0);
}

#[test]
fn cancelled_call_stops_its_handler() {
    let process = Process::start("monolith", &[]);
    let connection = RawConnection::open(process.address);
    let call = connection.call(GET_TITLE, &[]);
    in_flight(&process, "GetTitle", 1);
    call.reset();
    in_flight(&process, "GetTitle", 0);
    let metrics = process.http("/metrics");
    assert!(metrics.contains(r#"grpc_method="GetTitle",grpc_code="Canceled"} 1"#), "{metrics}");
    assert!(!process.log().contains("ERROR"), "the log has an error: {}", process.log());
    assert_eq!(connection.call(GET_TITLE, &[]).finish(b"").code, INVALID_ARGUMENT, "the connection stays open");
}

#[test]
fn oversized_headers_are_refused() {
    let process = Process::start("monolith", &[]);
    let long = "a".repeat(17 * 1024);
    let connection = RawConnection::open(process.address);
    let beside = connection.call(GET_TITLE, &[]);
    // Far more often than h2 tolerates resets of its own.
    for _ in 0..300 {
        let refused = connection.call(GET_TITLE, &[("x-long", &long)]).finish(b"");
        assert_eq!(refused.code, RESOURCE_EXHAUSTED);
    }
    assert_eq!(beside.finish(b"").code, INVALID_ARGUMENT, "the other call on the connection is unaffected");

    let answer = process.http_with("/healthz", &format!("x-long: {long}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = process.http_with("/healthz", &format!("x-long: {}\r\n", &long[..8 * 1024]));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn overload_sheds_calls_and_serves_the_rest() {
    let process = Process::start("monolith", &[("MESH__LIMITS__IN_FLIGHT", "1")]);
    let connection = RawConnection::open(process.address);
    let create = || {
        let title = CreateTitleRequest {
            request_id: uuid(),
            name: "Metropolis".to_owned(),
            year: 1927,
            ..CreateTitleRequest::default()
        };
        let mut call = connection.call(CREATE_TITLE, &[("grpc-timeout", "1M")]);
        call.send(&title.encode_to_vec());
        call
    };
    let flood: Vec<_> = (0..500).map(|_| create()).collect();
    let check = RawCall::begin(process.address, CHECK, &[]);
    assert_eq!(check.finish(b"").code, OK, "a busy instance is healthy");
    let codes: Vec<_> = flood.into_iter().map(|call| call.ended().code).collect();

    let count = |code| codes.iter().filter(|other| *other == code).count();
    let (served, refused) = (count(OK), count(RESOURCE_EXHAUSTED));
    assert_eq!(served + refused, codes.len(), "{codes:?}");
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    assert_eq!(create().ended().code, OK, "the instance serves again");

    let metrics = process.http("/metrics");
    let shed = format!(
        r#"grpc_server_shed_total{{grpc_service="catalog.v1.CatalogService",grpc_method="CreateTitle"}} {refused}"#
    );
    assert!(metrics.contains(&shed), "{shed} is not in {metrics}");
}

#[test]
fn nested_call_in_memory_needs_one_permit() {
    if !Grpcurl::installed() {
        return;
    }
    let process = Process::start("monolith", &[("MESH__LIMITS__IN_FLIGHT", "1")]);
    let render = json!({"request_id": uuid(), "title_id": uuid(), "image": tiny_picture()});
    let answer = process.grpcurl().call("artwork.v1.ArtworkService/RenderArtwork", &render);
    assert_eq!(answer.failure().1, "TITLE_NOT_FOUND", "the catalog was not called");
}

#[test]
fn stream_limit_takes_no_permits_of_calls() {
    let process = Process::start("monolith", &[("MESH__LIMITS__IN_FLIGHT", "1"), ("MESH__LIMITS__STREAMS", "2")]);
    let request = SubscribeRequest { parent: "services/artwork".to_owned(), ..Default::default() }.encode_to_vec();
    let subscribe = || {
        let mut call = RawCall::begin(process.address, SUBSCRIBE, &[("grpc-timeout", "1M")]);
        call.send(&request);
        call
    };
    let open = [subscribe(), subscribe()];
    in_flight(&process, "Subscribe", open.len());
    assert_eq!(subscribe().ended().code, RESOURCE_EXHAUSTED);
    is_served(&process);

    for stream in open {
        stream.reset();
    }
    in_flight(&process, "Subscribe", 0);
    let again = subscribe();
    in_flight(&process, "Subscribe", 1);
    again.reset();
}

#[test]
fn old_connection_ends_after_its_calls() {
    let limits = [("MESH__LIMITS__CONNECTION_AGE", "2s"), ("MESH__LIMITS__CONNECTION_GRACE", "1s")];
    let process = Process::start("monolith", &limits);
    let connection = RawConnection::open(process.address);
    let call = connection.call(GET_TITLE, &[]);
    let mut stream = connection.call(WATCH_HEALTH, &[]);
    let start = Instant::now();
    stream.send(b"");
    let ended = stream.ended();
    assert_eq!(ended.code, UNAVAILABLE, "the stream ends with a gRPC status");
    assert!(!ended.body.is_empty(), "messages from before the end are delivered");
    assert!(start.elapsed() >= Duration::from_secs(2), "the stream ended before the connection's age");
    // New calls use another connection by now; this call is older.
    assert_eq!(call.finish(b"").code, INVALID_ARGUMENT, "the call finishes");
    is_served(&process);
}

/// Whether a call on this connection is answered by the catalog's database.
fn reads(connection: &RawConnection) -> bool {
    // The field `title_id`.
    let request = [&[0x0a, 36][..], uuid().as_bytes()].concat();
    connection.call(GET_TITLE, &[]).finish(&request).code == NOT_FOUND
}

#[test]
fn connections_are_bounded() {
    let admin = free_address();
    let limits = [("MESH__LIMITS__CONNECTIONS", "2"), ("MESH__ADMIN__LISTEN", &*admin.to_string())];
    let process = Process::start("monolith", &limits);
    let (one, two) = (RawConnection::open(process.address), RawConnection::open(process.address));
    assert!(reads(&one) && reads(&two));
    let refuses = |address| {
        let mut refused = TcpStream::connect(address).expect("it listens");
        refused.set_read_timeout(Some(LIMIT)).expect("a timeout");
        assert_eq!(refused.read(&mut [0]).expect("it is closed, not reset"), 0);
    };
    (0..5).for_each(|_| refuses(process.address));
    assert!(reads(&one) && reads(&two));
    for path in ["/readyz", "/healthz", "/metrics"] {
        let answer = page(admin, path).expect("it listens");
        assert!(answer.starts_with("HTTP/1.1 200"), "probes have connections of their own: {answer}");
    }
    assert_eq!(process.log().matches("limits.connections reached").count(), 1, "{}", process.log());
    drop(one);
    eventually("a connection is free", || {
        let mut stream = TcpStream::connect(process.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        // Open: nothing to read yet.
        stream.read(&mut [0]).is_err().then_some(())
    });
    // The bound of the admin pages takes no connection of the services.
    let idle = [(); 10].map(|()| TcpStream::connect(admin).expect("it listens"));
    refuses(admin);
    assert!(reads(&two), "the services are served");
    drop(idle);
}

#[test]
#[cfg(target_os = "linux")]
fn open_files_are_raised_and_left_for_databases() {
    let mut limited = std::process::Command::new("prlimit");
    limited.arg("--nofile=64:256");
    let process = Process::start_under(limited, "monolith");
    // More than the soft limit, within half of the hard limit.
    let connections: Vec<_> = (0..100).map(|_| RawConnection::open(process.address)).collect();
    assert!(connections.iter().all(reads));
    // More than the hard limit. Those that the process accepts stay open.
    let crowd: Vec<_> = (0..300).map(|_| TcpStream::connect(process.address).expect("it listens")).collect();
    assert!(connections.iter().all(reads), "a call on an open connection failed: {}", process.log());
    assert!(process.log().contains("the limit of open files"), "{}", process.log());
    assert!(!process.log().contains("cannot accept"), "{}", process.log());
    drop(crowd);
}

/// With the backlog of 128 that is usual, the kernel drops the first packet of the rest, and each waits a second.
#[test]
#[cfg(target_os = "linux")]
fn connections_queue_while_the_process_is_stopped() {
    let process = Process::start("monolith", &[]);
    process.signal("STOP");
    let start = Instant::now();
    let queued: Vec<_> = (0..500).map(|_| TcpStream::connect(process.address).expect("it listens")).collect();
    let took = start.elapsed();
    process.signal("CONT");
    assert!(took < Duration::from_secs(1), "{} connections took {took:?}", queued.len());
    is_served(&process);
}

#[test]
fn expired_call_writes_nothing() {
    let process = Process::start("monolith", &[]);
    let request = CreateTitleRequest { request_id: uuid(), name: "M".to_owned(), year: 1931, ..Default::default() };
    for timeout in ["0n", "0S"] {
        let late = RawCall::begin(process.address, CREATE_TITLE, &[("grpc-timeout", timeout)]);
        assert_eq!(late.finish(&request.encode_to_vec()).code, DEADLINE_EXCEEDED);
    }
    let titles = RawCall::begin(process.address, "/catalog.v1.CatalogService/ListTitles", &[]).finish(b"");
    assert_eq!(titles.body, [0; 5], "there is a title");
}

#[test]
fn unary_call_without_a_deadline_ends() {
    let process = Process::start("monolith", &[("MESH__LIMITS__UNARY_DEADLINE", "1s")]);
    // Half a request: its message never arrives.
    let start = Instant::now();
    let call = RawCall::begin(process.address, GET_TITLE, &[]);
    assert_eq!(call.ended().code, DEADLINE_EXCEEDED);
    assert!((Duration::from_millis(900)..Duration::from_secs(10)).contains(&start.elapsed()));
}

#[test]
fn status_of_a_large_bad_request_fits_the_limit_of_a_client() {
    let process = Process::start("monolith", &[]);
    let size = |path: &str, request: &[u8]| {
        let ended = RawCall::begin(process.address, path, &[]).finish(request);
        assert_eq!(ended.code, INVALID_ARGUMENT);
        ended.status_size
    };
    let masks = [(0..40).map(|path| format!("{path}{}", "é".repeat(60))).collect(), vec!["x".repeat(6000)]];
    for paths in masks.into_iter().chain([vec!["漢".repeat(1_000_000)]]) {
        let mut request = UpdateTitleRequest { title: None, update_mask: Some(Default::default()) };
        request.update_mask.get_or_insert_default().paths = paths;
        let size = size("/catalog.v1.CatalogService/UpdateTitle", &request.encode_to_vec());
        assert!((1000..8 * 1024).contains(&size), "{size} bytes");
    }
}
