//! How a process ends that is asked to: with everything finished.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use harness::{Grpcurl, Process, RawCall, eventually};

/// Less than the default limit of 8 s by far: what ends by itself does not wait for the limit.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn a_signal_drains_and_exits_0() {
    for signal in ["TERM", "INT"] {
        let mut process = Process::start("monolith", &[]);
        process.signal(signal);
        let (status, took) = process.ended();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < SOON, "{signal} took {took:?}");
    }
}

#[test]
fn an_open_stream_does_not_hold_the_process() {
    if !Grpcurl::installed() {
        return;
    }
    let mut process = Process::start("monolith", &[]);
    let mut watch = process.grpcurl().open("grpc.health.v1.Health/Watch");
    let mut stdout = watch.stdout.take().expect("its output");
    let mut first = [0; 1];
    stdout.read_exact(&mut first).expect("a first status");

    process.signal("TERM");
    let (status, took) = process.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SOON, "took {took:?}");

    // The client was told so, in gRPC's words, before the connection was closed.
    let ended = watch.wait_with_output().expect("grpcurl ends");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(stderr.contains("Unavailable") && stderr.contains("shutting down"), "{stderr}");
}

#[test]
fn a_silent_connection_does_not_hold_the_process() {
    let mut process = Process::start("monolith", &[]);
    let _silent = TcpStream::connect(process.address).expect("it listens");
    process.signal("TERM");
    let (status, took) = process.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SOON, "took {took:?}");
}

/// Half a request: a call in flight that will never finish.
pub(crate) fn half_a_call(process: &Process) -> RawCall {
    // Served by every process, and asked by nobody else: an agent of Consul asks for Check.
    let half = RawCall::begin(process.address, "/grpc.health.v1.Health/Watch", &[]);
    let line = r#"grpc_server_in_flight{grpc_service="grpc.health.v1.Health",grpc_method="Watch"} 1"#;
    eventually("the call is in flight", || process.http("/metrics").contains(line).then_some(()));
    half
}

#[test]
fn the_limit_is_kept() {
    let mut process = Process::start("monolith", &[("MESH__DRAIN_LIMIT", "1s")]);
    let _half = half_a_call(&process);
    process.signal("TERM");
    let (status, took) = process.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took >= Duration::from_millis(900) && took < SOON, "took {took:?}");
    assert!(process.log().contains("drain limit reached"));
}

#[test]
fn a_draining_process_takes_no_new_connections() {
    let mut process = Process::start("monolith", &[("MESH__DRAIN_LIMIT", "3s")]);
    let _half = half_a_call(&process);
    process.signal("TERM");
    // While the call in flight keeps it.
    eventually("connections are refused", || TcpStream::connect(process.address).is_err().then_some(()));
    assert!(process.runs());
    process.ended();
}
