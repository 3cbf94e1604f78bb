//! Work that is so short that it ends while somebody asks for it, or cancels it. A few hundred times by default;
//! `scripts/soak` asks for 10,000.

use std::time::Duration;

use contracts::mesh::operations::v1::State;
use harness::uuid;

use super::random::asked;
use super::system::{System, patiently};

/// How often each of so many clients runs a race, which is run so often by default.
fn rounds(clients: u64, by_default: u64) -> u64 {
    asked("SOAK_RACES").unwrap_or(by_default).div_ceil(clients)
}

on_both!(nobody_misses_an_end_that_comes_at_once, 2);
fn nobody_misses_an_end_that_comes_at_once(system: System) {
    let rounds = rounds(16, 200);
    let clients = (0..16).map(|client| {
        let (caller, helped) = (system.caller(), client % 2 == 0);
        system.spawn(async move {
            for _ in 0..rounds {
                let name = caller.start(&uuid()).await;
                if helped {
                    patiently(caller.follow_with_help(&name)).await;
                } else {
                    patiently(caller.follow(&name)).await;
                }
            }
        })
    });
    system.join_all(clients.collect());
    assert_eq!(system.verdict().ended(State::Succeeded) as u64, 16 * rounds);
}

on_both!(of_a_cancellation_and_an_end_one_wins, 2);
fn of_a_cancellation_and_an_end_one_wins(system: System) {
    let rounds = rounds(8, 240);
    let clients = (0..8).map(|client| {
        let caller = system.caller();
        // It may be another replica that is asked to stop it.
        let other = system.last_caller();
        system.spawn(async move {
            for round in 0..rounds {
                let name = caller.start(&uuid()).await;
                // From before it is begun to after its end.
                tokio::time::sleep(Duration::from_millis(round % 30 * (1 + client % 4))).await;
                patiently(async { tokio::join!(other.cancel(&name), caller.follow(&name)) }).await;
            }
        })
    });
    system.join_all(clients.collect());
    let evidence = system.verdict();
    let (won, lost) = (evidence.ended(State::Cancelled), evidence.ended(State::Succeeded));
    assert_eq!((won + lost) as u64, 8 * rounds);
    assert!(won > 0 && lost > 0, "no race: {won} cancelled, {lost} not");
    // What Postgres says when somebody gets a connection on which a transaction was left open, or ends one that is over.
    for left in ["already a transaction in progress", "no transaction in progress"] {
        assert!((0..system.replicas()).all(|replica| !system.says(replica, left, "")), "{left}");
    }
}
