//! A deadline, and a cancellation, reach the last of four hops.

use std::time::{Duration, UNIX_EPOCH};

use contracts::catalog::v1::GetTitleRequest;
use harness::{Process, RawCall, eventually, uuid};
use prost::Message as _;

use super::hops::{self, Event};
use super::load::{Client, Kind};

const METHOD: &str = "/catalog.v1.CatalogService/GetTitle";
/// The slack of a busy machine.
const SLACK: Duration = Duration::from_secs(2);

/// Four hops; the last one answers after every deadline.
fn four_hops() -> [Process; 4] {
    let last = hops::answering(hops::NEVER);
    let third = hops::to(&[last.address]);
    let second = hops::to(&[third.address]);
    let first = hops::to(&[second.address]);
    [first, second, third, last]
}

fn event(hop: &Process) -> Vec<Event> {
    hops::seen(hop).iter().map(|seen| seen.event).collect()
}

#[test]
fn deadline_reaches_the_last_hop_and_stops_it() {
    let hops = four_hops();
    // The raw client has no clock: the status is that of the first hop.
    let call = RawCall::begin(hops[0].address, METHOD, &[("grpc-timeout", "2S")]);
    let ended = call.finish(&GetTitleRequest { title_id: uuid() }.encode_to_vec());
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");

    let budgets = hops.each_ref().map(|hop| match event(hop)[0] {
        Event::Begun(Some(budget)) => budget,
        other => panic!("a call without a deadline: {other:?}"),
    });
    println!("{budgets:?}");
    assert!(budgets[0] <= Duration::from_secs(2) && budgets[3] > Duration::from_secs(1), "{budgets:?}");
    assert!(budgets.is_sorted_by(|one, next| *next < *one), "{budgets:?}");
    // The work has stopped at every hop.
    eventually("the last hop stops", || event(&hops[3]).contains(&Event::Dropped).then_some(()));
    for hop in &hops {
        eventually("the hop stops", || (event(hop).len() == 2).then_some(()));
    }
}

#[test]
fn deadline_is_always_reported_as_deadline_exceeded() {
    let hops = four_hops();
    let begin = |timeout: &str| {
        let mut call = RawCall::begin(hops[0].address, METHOD, &[("grpc-timeout", timeout)]);
        call.send(&GetTitleRequest { title_id: uuid() }.encode_to_vec());
        call
    };
    // The deadline passes at the last hop or already at the first; the caller gets the same code.
    let calls: Vec<_> = ["1m", "10m", "30m", "60m", "100m", "300m"].iter().cycle().take(48).map(|t| begin(t)).collect();
    for call in calls {
        assert_eq!(call.ended().code, "4", "DEADLINE_EXCEEDED");
    }
}

#[test]
fn cancellation_reaches_the_last_hop() {
    let hops = four_hops();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let client = runtime.block_on(async { Client::of(hops[0].address) });
    let mut late = Vec::new();
    for round in 1..=21 {
        let calling = runtime.spawn({
            let client = client.clone();
            async move { client.call(Kind::Get).await }
        });
        eventually("the call reaches the last hop", || (hops::attempts(&hops[3], "GetTitle") == round).then_some(()));
        let cancelled = UNIX_EPOCH.elapsed().expect("it is after 1970");
        calling.abort();
        late.push(eventually("the last hop drops the call", || {
            let seen = hops::seen(&hops[3]);
            let dropped = seen.iter().rfind(|seen| seen.event == Event::Dropped)?;
            (seen.len() == 2 * round).then(|| dropped.at.saturating_sub(cancelled))
        }));
    }
    late.sort();
    println!("the last hop noticed after {:?}, {:?} at most", late[10], late[20]);
    assert!(late[20] < SLACK, "{late:?}");
}
