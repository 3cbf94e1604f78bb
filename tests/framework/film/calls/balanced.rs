//! Restarts behind a balancer that probes health every second and takes two failures for unhealthy: no call fails.

use std::net::SocketAddr;

use harness::{Balancer, Envoy, Process, eventually};

use super::load::{Kind, Load};

/// Methods that must not be retried are among them: no balancer may hide a failure.
const KINDS: &[Kind] = &[Kind::Get, Kind::Get, Kind::Create];
/// Calls a second.
const RATE: u32 = 200;
/// Each of the two processes restarts three times.
const RESTARTS: usize = 6;
/// The shipped default. The harness sets 0 for all other tests.
const DRAIN_DELAY: (&str, &str) = ("MESH__DRAIN_DELAY", "3s");

#[test]
#[ignore = "takes a minute: .ci/foreign"]
fn restarts_behind_a_balancer_fail_no_call_for_a_minute() {
    let mut processes = start();
    let balancer = Balancer::to(&addresses(&processes));
    restart(&mut processes, balancer.address, |process| balancer.is_healthy(process));
}

#[test]
#[ignore = "needs Envoy: .ci/foreign"]
fn restarts_behind_envoy_fail_no_call() {
    let mut processes = start();
    let Some(envoy) = Envoy::start(&addresses(&processes)) else { return };
    restart(&mut processes, envoy.address, |process| envoy.is_healthy(process));
}

fn start() -> Vec<Process> {
    (0..2).map(|_| Process::start("monolith", &[DRAIN_DELAY])).collect()
}

fn addresses(processes: &[Process]) -> Vec<SocketAddr> {
    processes.iter().map(|process| process.address).collect()
}

fn restart(processes: &mut [Process], balancer: SocketAddr, is_healthy: impl Fn(SocketAddr) -> bool) {
    let load = Load::begin(balancer, RATE, KINDS);
    for restart in 0..RESTARTS {
        load.wait_for_calls(RATE as usize);
        let process = &mut processes[restart % 2];
        let address = process.address.to_string();
        process.signal("TERM");
        let (status, _) = process.ended();
        assert_eq!(status.code(), Some(0), "the drain failed");
        *process = Process::start_in(process.folder_left(), "monolith", &[DRAIN_DELAY, ("MESH__LISTEN", &address)]);
        // The next one restarts when this one is called again.
        let address = process.address;
        eventually("the balancer finds it healthy", || is_healthy(address).then_some(()));
    }
    load.wait_for_calls(RATE as usize);
    load.end_without_failures();
}
