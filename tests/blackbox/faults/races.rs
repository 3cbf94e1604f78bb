//! Work that is so short that it ends while somebody asks for it, or cancels it.

use std::time::Duration;

use contracts::mesh::operations::v1::State;

use super::system::System;
use crate::harness::uuid;

/// How often each client of the first race runs it.
const ROUNDS: usize = 12;

on_both!(nobody_misses_an_end_that_comes_at_once, 2);
fn nobody_misses_an_end_that_comes_at_once(system: System) {
    let clients = (0..16).map(|client| {
        let (caller, helped) = (system.caller(), client % 2 == 0);
        system.spawn(async move {
            for _ in 0..ROUNDS {
                let name = caller.start(&uuid()).await;
                if helped {
                    caller.follow_with_help(&name).await;
                } else {
                    caller.follow(&name).await;
                }
            }
        })
    });
    system.join(clients.collect());
    assert_eq!(system.verdict().ended(State::Succeeded), 16 * ROUNDS);
}

on_both!(of_a_cancellation_and_an_end_one_wins, 2);
fn of_a_cancellation_and_an_end_one_wins(system: System) {
    let clients = (0..8).map(|client| {
        let caller = system.caller();
        // It may be another replica that is asked to stop it.
        let other = system.last_caller();
        system.spawn(async move {
            for round in 0..30 {
                let name = caller.start(&uuid()).await;
                // From before it is begun to after its end.
                tokio::time::sleep(Duration::from_millis(round * (1 + client % 4))).await;
                tokio::join!(other.cancel(&name), caller.follow(&name));
            }
        })
    });
    system.join(clients.collect());
    let evidence = system.verdict();
    let (won, lost) = (evidence.ended(State::Cancelled), evidence.ended(State::Succeeded));
    assert_eq!(won + lost, 8 * 30);
    assert!(won > 0 && lost > 0, "no race: {won} cancelled, {lost} not");
}
