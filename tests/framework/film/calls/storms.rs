//! All instances fail. Unbounded retries would turn that into an outage of the services around them.

use std::net::TcpListener;

use harness::Process;
use tonic::Code;

use super::hops;
use super::load::{Kind, Load};

/// So many that the minimum of the retry budget, one retry a second, does not count.
const CALLS: usize = 800;
/// Calls a second.
const RATE: u32 = 200;

fn two_that_refuse() -> ([Process; 2], Process) {
    let instances = [hops::refusing(), hops::refusing()];
    let caller = hops::to(&instances.each_ref().map(|instance| instance.address));
    (instances, caller)
}

#[test]
fn retries_are_at_most_a_fifth_of_the_calls() {
    let (instances, caller) = two_that_refuse();
    let load = Load::begin(caller.address, RATE, &[Kind::Get, Kind::Create]);
    load.wait_for_calls(CALLS);
    let calls = load.end();
    assert!(calls.iter().all(|call| call.answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable)));
    let attempts: usize = ["GetTitle", "CreateTitle"].iter().map(|method| attempts(&instances, method)).sum();
    println!("{attempts} attempts at {} calls", calls.len());
    assert!(attempts * 10 <= calls.len() * 12, "{attempts} attempts at {} calls", calls.len());
    assert!(attempts > calls.len(), "no call was retried");
}

#[test]
fn non_idempotent_calls_are_not_retried() {
    let (instances, caller) = two_that_refuse();
    let load = Load::begin(caller.address, RATE, &[Kind::Delete]);
    load.wait_for_calls(CALLS / 4);
    let calls = load.end();
    assert_eq!(attempts(&instances, "DeleteTitle"), calls.len());
}

#[test]
fn unsent_calls_are_retried_even_if_not_idempotent() {
    // Nothing listens at this address.
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("a port");
    for _ in 0..10 {
        let well = hops::answering("0");
        let caller = hops::to(&[gone, well.address]);
        let load = Load::begin(caller.address, RATE, &[Kind::Delete]);
        load.wait_for_calls(10);
        let calls = load.end();
        assert!(calls.iter().all(|call| call.answer.is_ok()), "{:?}", calls[0].answer);
        assert_eq!(hops::attempts(&well, "DeleteTitle"), calls.len());
        if hops::metric(&caller, "mesh_peer_retries_total") > 0 {
            return;
        }
    }
    panic!("no call tried the address without a listener");
}

fn attempts(instances: &[Process], method: &str) -> usize {
    instances.iter().map(|instance| hops::attempts(instance, method)).sum()
}
