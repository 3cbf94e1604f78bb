//! An instance that takes calls and never answers, because it or its network stalls.
//!
//! The calls it received before its ejection fail at their deadline. Other calls are not delayed.

use std::net::TcpListener;
use std::time::Duration;

use harness::{eventually, eventually_within};
use tonic::Code;

use super::hops;
use super::load::{Call, Kind, Load};

/// The deadline of a call without one of its own and without one in the contract.
const DEADLINE: (&str, &str) = ("MESH__CALL_DEADLINE", "1s");
/// Calls a second.
const RATE: u32 = 40;
/// Far below the deadline, and far above the time of an answer.
const SOON: Duration = Duration::from_millis(800);

#[test]
fn silent_instance_is_ejected() {
    // The instance accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|address| (silent, address));
    let (_silent, address) = silent.expect("an address");
    let well = hops::answering("0");
    let caller = hops::to_with(&[address, well.address], &[DEADLINE]);
    let load = Load::begin(caller.address, RATE, &[Kind::Create]);
    eventually("the caller ejects the instance", || hops::has_ejected(&caller, address).then_some(()));
    let before = load.end();
    only_its_calls_failed(&before);
    assert!(before.iter().any(|call| call.answer.is_err()), "the silent instance got no call");

    let after = Load::begin(caller.address, RATE, &[Kind::Create]);
    after.wait_for_calls(RATE as usize * 2);
    after.end_without_failures();
}

#[test]
fn stopped_instance_is_ejected_and_returns() {
    let instances = [hops::answering("0"), hops::answering("0")];
    let caller = hops::to_with(&instances.each_ref().map(|instance| instance.address), &[DEADLINE]);
    let load = Load::begin(caller.address, RATE, &[Kind::Create]);
    for instance in &instances {
        eventually("the instance is called", || (hops::attempts(instance, "CreateTitle") > 0).then_some(()));
    }
    instances[0].signal("STOP");
    eventually("the caller ejects the instance", || hops::has_ejected(&caller, instances[0].address).then_some(()));
    let failed = load.end();
    only_its_calls_failed(&failed);

    let without = Load::begin(caller.address, RATE, &[Kind::Create]);
    without.wait_for_calls(RATE as usize);
    without.end_without_failures();
    let before = hops::attempts(&instances[0], "CreateTitle");
    instances[0].signal("CONT");
    let with = Load::begin(caller.address, RATE, &[Kind::Create]);
    // More calls than the instance had received before it was stopped. Of two instances the faster one is picked: one
    // that was slow when it came back gets few calls until its average has decayed, over some ten seconds each.
    eventually_within(Duration::from_secs(90), "the instance is called again", || {
        let well = caller.log().contains("back among those that are called");
        (well && hops::attempts(&instances[0], "CreateTitle") > before + RATE as usize).then_some(())
    });
    with.end_without_failures();
}

/// Asserts that calls to the silent instance failed at their deadline, and that the others were fast.
fn only_its_calls_failed(calls: &[Call]) {
    let (mut failed, mut slow) = (0, 0);
    for call in calls {
        match &call.answer {
            Ok(()) => slow += usize::from(call.took > SOON),
            Err(status) => {
                failed += 1;
                assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
                assert!(call.took < Duration::from_secs(5), "{:?}", call.took);
            }
        }
    }
    println!("{failed} of {} failed, {slow} were slow", calls.len());
    assert!(failed < calls.len() / 2, "{failed} of {} failed", calls.len());
    // On a busy machine a few calls are slow; if calls waited for the silent instance, every second one would be.
    assert!(slow < calls.len() / 10, "{slow} of {} waited for the silent instance", calls.len());
}
