//! An instance that takes calls and never answers: one that stands still, or whose network does.
//!
//! What it got before it is left out costs its deadline. Nobody can know sooner; but nobody else pays for it.

use std::net::TcpListener;
use std::time::Duration;

use harness::eventually;
use tonic::Code;

use super::hops;
use super::load::{Call, Kind, Load};

/// What a call gets that says nothing, and whose contract says nothing either.
const DEADLINE: (&str, &str) = ("MESH__CALL_DEADLINE", "1s");
/// Calls a second.
const RATE: u32 = 40;
/// Much less than the deadline, and much more than an answer takes.
const SOON: Duration = Duration::from_millis(800);

#[test]
fn one_that_never_answers_is_left_out() {
    // It takes connections, and that is all it does.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|address| (silent, address));
    let (_silent, address) = silent.expect("an address");
    let well = hops::answering("0");
    let caller = hops::to_with(&[address, well.address], &[DEADLINE]);
    let load = Load::begin(caller.address, RATE, &[Kind::Create]);
    eventually("it is left out", || hops::leaves_out(&caller, address).then_some(()));
    let before = load.end();
    only_those_it_got_failed(&before);
    assert!(before.iter().any(|call| call.answer.is_err()), "nobody has asked it");

    let after = Load::begin(caller.address, RATE, &[Kind::Create]);
    after.goes_on(RATE as usize * 2);
    after.ends_well();
}

#[test]
fn one_that_stands_still_is_left_out_and_comes_back() {
    let instances = [hops::answering("0"), hops::answering("0")];
    let caller = hops::to_with(&instances.each_ref().map(|instance| instance.address), &[DEADLINE]);
    let load = Load::begin(caller.address, RATE, &[Kind::Create]);
    for instance in &instances {
        eventually("it is called", || (hops::attempts(instance, "CreateTitle") > 0).then_some(()));
    }
    instances[0].signal("STOP");
    eventually("it is left out", || hops::leaves_out(&caller, instances[0].address).then_some(()));
    let failed = load.end();
    only_those_it_got_failed(&failed);

    let without = Load::begin(caller.address, RATE, &[Kind::Create]);
    without.goes_on(RATE as usize);
    without.ends_well();
    let before = hops::attempts(&instances[0], "CreateTitle");
    instances[0].signal("CONT");
    let with = Load::begin(caller.address, RATE, &[Kind::Create]);
    // What it had taken before is not what it is asked now.
    eventually("it is called again", || {
        let well = caller.log().contains("back among those that are called");
        (well && hops::attempts(&instances[0], "CreateTitle") > before + RATE as usize).then_some(())
    });
    with.ends_well();
}

/// And those at their deadline; the others were as fast as ever.
fn only_those_it_got_failed(calls: &[Call]) {
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
    // A machine may be busy, but a mesh that waits for the silent one would be slow every second time.
    assert!(slow < calls.len() / 10, "{slow} of {} waited for the one that is silent", calls.len());
}
