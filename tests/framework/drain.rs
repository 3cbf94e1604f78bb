//! The drain: how a process ends on a signal.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::{Grpcurl, Process, RawCall, RawConnection, eventually};
use serde_json::json;

/// Far below the default limit of 8 s: a drain without open calls does not wait for the limit.
const SOON: Duration = Duration::from_secs(4);

/// The signal of a terminal that closes. Below `nohup`, the processes of these tests ignore it, as they should.
fn hang_up() -> Option<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // The first bit of the mask.
    let hang_up = (ignored & 1 == 0).then_some("HUP");
    if hang_up.is_none() {
        eprintln!("SKIPPED: SIGHUP, which this test ignores");
    }
    hang_up
}

#[test]
fn drain_on_a_signal_exits_0() {
    for signal in ["TERM", "INT"].into_iter().chain(hang_up()) {
        let mut process = Process::start("monolith", &[]);
        process.signal(signal);
        let (status, took) = process.ended();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < SOON, "{signal} took {took:?}");
    }
}

/// The shipped default of `drain_delay`; the harness sets 0.
const DELAY: (&str, &str) = ("MESH__DRAIN_DELAY", "3s");
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// The answer of a health check, with the prefix of its message.
const NOT_SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 2];
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

#[test]
fn drain_delay_serves_calls_and_reports_not_serving() {
    for signal in ["TERM"].into_iter().chain(hang_up()) {
        let mut process = Process::start("monolith", &[DELAY]);
        let old = RawConnection::open(process.address);
        assert_eq!(old.call(CHECK, &[]).finish(b"").body, SERVING);
        process.signal(signal);
        let start = Instant::now();
        eventually("/readyz says so", || process.http("/readyz").starts_with("HTTP/1.1 503").then_some(()));
        assert!(process.http("/readyz").contains("draining"));

        // Calls are served on old and on new connections until the delay is over, and health never says SERVING.
        let mut checks = 0;
        while start.elapsed() < Duration::from_millis(2500) {
            for connection in [old.clone(), RawConnection::open(process.address)] {
                let ended = connection.call(CHECK, &[]).finish(b"");
                assert_eq!((&*ended.code, &*ended.body), ("0", NOT_SERVING), "{signal}");
                checks += 1;
            }
        }
        assert!(checks > 2, "{checks} checks");
        let (status, _) = process.ended();
        assert_eq!(status.code(), Some(0));
        assert!((Duration::from_secs(3)..Duration::from_secs(3) + SOON).contains(&start.elapsed()), "{signal}");
    }
}

#[test]
fn drain_delay_reaches_open_health_watches() {
    if !Grpcurl::installed() {
        return;
    }
    let mut process = Process::start("monolith", &[DELAY]);
    let mut watch = process.grpcurl().open_with("grpc.health.v1.Health/Watch", &json!({}));
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let mut status = || lines.find(|line| line.contains("status")).expect("a status");
    assert!(status().contains("\"SERVING\""));
    process.signal("TERM");
    let start = Instant::now();
    assert!(status().contains("NOT_SERVING"));
    assert!(start.elapsed() < Duration::from_secs(2), "it came at the end of the delay");
    process.ended();
    watch.wait().expect("grpcurl ends");
}

#[test]
fn drain_delay_does_not_apply_to_ctrl_c() {
    let mut process = Process::start("monolith", &[("MESH__DRAIN_DELAY", "8s")]);
    process.signal("INT");
    assert!(process.ended().1 < SOON);
}

#[test]
fn drain_ends_at_a_second_signal() {
    let mut process = Process::start("monolith", &[("MESH__DRAIN_DELAY", "8s")]);
    process.signal("TERM");
    eventually("the drain begins", || process.log().contains("draining").then_some(()));
    process.signal("TERM");
    let (status, took) = process.ended();
    assert_eq!(status.code(), Some(0));
    assert!(took < SOON, "took {took:?}");
}

#[test]
fn drain_limit_includes_the_delay() {
    let mut process = Process::start("monolith", &[("MESH__DRAIN_LIMIT", "2s"), ("MESH__DRAIN_DELAY", "1s")]);
    let _half = half_a_call(&process);
    process.signal("TERM");
    let (_, took) = process.ended();
    assert!((Duration::from_millis(1900)..SOON).contains(&took), "took {took:?}");
}

/// A process that was started by `nohup` outlives its terminal.
#[test]
#[cfg(target_os = "linux")]
fn drain_ignores_a_hang_up_that_nohup_ignores() {
    let mut process = Process::start_under(std::process::Command::new("nohup"), "monolith");
    process.signal("HUP");
    assert!(process.http("/readyz").starts_with("HTTP/1.1 200"));
    process.signal("TERM");
    process.ended();
    assert!(!process.log().contains("SIGHUP"), "{}", process.log());
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
