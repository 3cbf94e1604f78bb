//! Four hops: a deadline reaches the last one, and so does its end.

use std::time::{Duration, UNIX_EPOCH};

use contracts::catalog::v1::GetTitleRequest;
use harness::{Process, RawCall, eventually, uuid};
use prost::Message as _;

use super::hops::{self, What};
use super::load::{Client, Kind};

const METHOD: &str = "/catalog.v1.CatalogService/GetTitle";
/// What a busy machine may take.
const SLACK: Duration = Duration::from_secs(2);

/// The last of them answers when nobody waits any more.
fn four_hops() -> [Process; 4] {
    let last = hops::answering(hops::NEVER);
    let third = hops::to(&[last.address]);
    let second = hops::to(&[third.address]);
    let first = hops::to(&[second.address]);
    [first, second, third, last]
}

fn what(hop: &Process) -> Vec<What> {
    hops::seen(hop).iter().map(|seen| seen.what).collect()
}

#[test]
fn a_budget_of_two_seconds_is_visible_at_the_last_hop() {
    let hops = four_hops();
    // Its client has no clock of its own: what comes back is the first hop's word.
    let call = RawCall::begin(hops[0].address, METHOD, &[("grpc-timeout", "2S")]);
    let ended = call.finish(&GetTitleRequest { title_id: uuid() }.encode_to_vec());
    assert_eq!(ended.code, "4", "DEADLINE_EXCEEDED");

    let budgets = hops.each_ref().map(|hop| match what(hop)[0] {
        What::Begun(Some(budget)) => budget,
        other => panic!("a call without a deadline: {other:?}"),
    });
    println!("{budgets:?}");
    assert!(budgets[0] <= Duration::from_secs(2) && budgets[3] > Duration::from_secs(1), "{budgets:?}");
    assert!(budgets.is_sorted_by(|one, next| *next < *one), "{budgets:?}");
    // And the work has stopped, everywhere.
    eventually("the last one stops", || what(&hops[3]).contains(&What::Dropped).then_some(()));
    for hop in &hops {
        eventually("it stops", || (what(hop).len() == 2).then_some(()));
    }
}

#[test]
fn the_end_of_a_budget_is_never_called_otherwise() {
    let hops = four_hops();
    let begin = |timeout: &str| {
        let mut call = RawCall::begin(hops[0].address, METHOD, &[("grpc-timeout", timeout)]);
        call.send(&GetTitleRequest { title_id: uuid() }.encode_to_vec());
        call
    };
    // Long enough for the last hop, or over at the first one: it is the same to the caller.
    let calls: Vec<_> = ["1m", "10m", "30m", "60m", "100m", "300m"].iter().cycle().take(48).map(|t| begin(t)).collect();
    for call in calls {
        assert_eq!(call.ended().code, "4", "DEADLINE_EXCEEDED");
    }
}

#[test]
fn who_goes_away_is_noticed_at_the_last_hop() {
    let hops = four_hops();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let client = runtime.block_on(async { Client::of(hops[0].address) });
    let mut late = Vec::new();
    for round in 1..=21 {
        let calling = runtime.spawn({
            let client = client.clone();
            async move { client.call(Kind::Get).await }
        });
        eventually("it is at the last hop", || (hops::attempts(&hops[3], "GetTitle") == round).then_some(()));
        let cancelled = UNIX_EPOCH.elapsed().expect("it is after 1970");
        calling.abort();
        late.push(eventually("it is dropped", || {
            let seen = hops::seen(&hops[3]);
            let dropped = seen.iter().rfind(|seen| seen.what == What::Dropped)?;
            (seen.len() == 2 * round).then(|| dropped.at.saturating_sub(cancelled))
        }));
    }
    late.sort();
    println!("noticed after {:?}, {:?} at most", late[10], late[20]);
    assert!(late[20] < SLACK, "{late:?}");
}
