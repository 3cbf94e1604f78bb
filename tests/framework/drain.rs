//! The drain: how a process ends on a signal.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use harness::{Grpcurl, Process, RawCall, eventually};

/// Far below the default limit of 8 s: a drain without open calls does not wait for the limit.
const SOON: Duration = Duration::from_secs(4);

#[test]
fn drain_on_a_signal_exits_0() {
    for signal in ["TERM", "INT"] {
        let mut process = Process::start("monolith", &[]);
        process.signal(signal);
        let (status, took) = process.ended();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < SOON, "{signal} took {took:?}");
    }
}

#[test]
fn drain_ends_streams() {
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

    // Before the connection closed, the client got a gRPC status.
    let ended = watch.wait_with_output().expect("grpcurl ends");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(stderr.contains("Unavailable") && stderr.contains("shutting down"), "{stderr}");
}

#[test]
fn drain_closes_silent_connections() {
    let mut process = Process::start("monolith", &[]);
    let _silent = TcpStream::connect(process.address).expect("it listens");
    process.signal("TERM");
    let (status, took) = process.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SOON, "took {took:?}");
}

/// Half a request: a call in flight that never finishes.
pub(crate) fn half_a_call(process: &Process) -> RawCall {
    // Every process serves this method, and no other client calls it: a Consul agent calls Check.
    let half = RawCall::begin(process.address, "/grpc.health.v1.Health/Watch", &[]);
    let line = r#"grpc_server_in_flight{grpc_service="grpc.health.v1.Health",grpc_method="Watch"} 1"#;
    eventually("the call is in flight", || process.http("/metrics").contains(line).then_some(()));
    half
}

#[test]
fn drain_ends_at_its_limit() {
    let mut process = Process::start("monolith", &[("MESH__DRAIN_LIMIT", "1s")]);
    let _half = half_a_call(&process);
    process.signal("TERM");
    let (status, took) = process.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took >= Duration::from_millis(900) && took < SOON, "took {took:?}");
    assert!(process.log().contains("drain limit reached"));
}

#[test]
fn drain_refuses_new_connections() {
    let mut process = Process::start("monolith", &[("MESH__DRAIN_LIMIT", "3s")]);
    let _half = half_a_call(&process);
    process.signal("TERM");
    // The call in flight keeps the process running meanwhile.
    eventually("connections are refused", || TcpStream::connect(process.address).is_err().then_some(()));
    assert!(process.runs());
    process.ended();
}
