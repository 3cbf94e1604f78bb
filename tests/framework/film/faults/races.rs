//! Work so short that it ends while a client watches or cancels it. A few hundred rounds by default, 10,000 in
//! `scripts/soak`.

use std::time::Instant;

use contracts::mesh::operations::v1::State;
use harness::uuid;

use super::caller::metadata;
use super::random::setting;
use super::system::{System, within_limit};

/// The rounds of each client: `by_default` in total, or SOAK_RACES.
fn rounds(clients: u64, by_default: u64) -> u64 {
    setting("SOAK_RACES").unwrap_or(by_default).div_ceil(clients)
}

on_both!(immediate_end_reaches_every_watcher, 2);
fn immediate_end_reaches_every_watcher(system: System) {
    let rounds = rounds(16, 200);
    let clients = (0..16).map(|client| {
        let (caller, helped) = (system.caller(), client % 2 == 0);
        system.spawn(async move {
            for _ in 0..rounds {
                let name = caller.start(&uuid()).await;
                if helped {
                    within_limit(caller.follow_until_done(&name)).await;
                } else {
                    within_limit(caller.follow(&name)).await;
                }
            }
        })
    });
    system.join_all(clients.collect());
    assert_eq!(system.verdict().ended(State::Succeeded) as u64, 16 * rounds);
}

on_both!(cancellation_and_end_have_one_winner, 2);
fn cancellation_and_end_have_one_winner(system: System) {
    let rounds = rounds(8, 240);
    let clients = (0..8).map(|client| {
        let caller = system.caller();
        // The cancellation may go to another replica.
        let other = system.last_caller();
        system.spawn(async move {
            // How long the work takes on this machine now.
            let begun = Instant::now();
            let first = caller.start(&uuid()).await;
            within_limit(caller.follow(&first)).await;
            let whole = begun.elapsed();
            for round in 0..rounds {
                let name = caller.start(&uuid()).await;
                // From before the work starts to after its end.
                tokio::time::sleep(whole.mul_f64((round * 4 + client) as f64 % 60.0 / 30.0)).await;
                within_limit(async { tokio::join!(other.cancel(&name), caller.follow(&name)) }).await;
            }
            // Each side wins at least once, however fast the machine is: a cancellation at once, and one after the end.
            let mut more = 0;
            loop {
                let name = caller.start(&uuid()).await;
                more += 1;
                let (end, ()) = within_limit(async { tokio::join!(caller.follow(&name), other.cancel(&name)) }).await;
                if metadata(&end).state() == State::Cancelled {
                    break;
                }
            }
            other.cancel(&first).await;
            more
        })
    });
    let more: u64 = system.join_all(clients.collect()).into_iter().sum();
    let evidence = system.verdict();
    let (won, lost) = (evidence.ended(State::Cancelled), evidence.ended(State::Succeeded));
    assert_eq!((won + lost) as u64, 8 * (rounds + 1) + more);
    assert!(won >= 8 && lost >= 8, "{won} cancelled, {lost} not");
    // What Postgres logs when a pooled connection has an open transaction, or ends one that is over.
    for left in ["already a transaction in progress", "no transaction in progress"] {
        assert!((0..system.replicas()).all(|replica| !system.logs(replica, left, "")), "{left}");
    }
}
