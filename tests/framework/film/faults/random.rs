//! Random kills under mixed load: clients start, watch and cancel operations while processes are killed again and
//! again.
//!
//! A few kills by default; `scripts/soak` sets more. The test prints its seed, which decides which process is killed,
//! after how many lines of the recorder, and what clients cancel. The scheduling of the clients is up to the machine.

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use contracts::mesh::operations::v1::State;
use harness::film::{small_picture, smallest_picture};
use harness::uuid;

use super::caller::Caller;
use super::evidence::Evidence;
use super::system::System;

const CLIENTS: usize = 6;

/// Random moments for faults.
pub(super) struct Moments {
    random: fastrand::Rng,
}

impl Moments {
    /// Prints its seed.
    pub(super) fn new() -> Self {
        let seed = setting("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
        note(&format!("SOAK_SEED={seed}"));
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// Waits until the recorder has a random number of further lines, and then a little longer.
    pub(super) fn pass(&mut self, system: &System, lines: Range<usize>) {
        system.recorder.grows(self.random.usize(lines));
        system.pause(Duration::from_micros(self.random.u64(..5000)));
    }
}

/// `eprintln!` would be captured by the test runner.
fn note(what: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: {what}");
}

/// A value that `scripts/soak` sets in place of the default.
pub(super) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

on_both!(random_kills_break_no_invariant, 2);
fn random_kills_break_no_invariant(mut system: System) {
    let mut moments = Moments::new();
    let enough = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|client| {
        let picture = if client < CLIENTS / 2 { small_picture() } else { smallest_picture() };
        let caller = system.caller_of(client % system.replicas()).with_image(&picture);
        system.spawn(run_until(caller, moments.random.fork(), Arc::clone(&enough)))
    });
    let clients = clients.collect();
    for kill in 1..=setting("SOAK_KILLS").unwrap_or(5) {
        moments.pass(&system, 1..80);
        let killed = moments.random.usize(..system.replicas());
        system.kill(killed, |system| {
            Evidence::collect(&system.database).assert_whole();
            system.end_leases();
        });
        if kill % 20 == 0 {
            note(&format!("{kill} kills"));
        }
    }
    system.recorder.grows(50);
    enough.store(true, Ordering::Relaxed);
    system.join(clients);

    let evidence = system.verdict();
    let asked = system.recorder.read().asked;
    assert_eq!(evidence.operations.len(), asked.len(), "not one operation for each request");
    let ended = [State::Succeeded, State::Cancelled, State::Failed].map(|state| evidence.ended(state));
    note(&format!("{} operations; {ended:?} succeeded, were cancelled, failed", asked.len()));
    assert!(ended[0] > 0);
}

/// Starts operations one after the other, cancels some, and watches all of them, with or without `watch_until_done`.
async fn run_until(caller: Caller, mut random: fastrand::Rng, enough: Arc<AtomicBool>) {
    while !enough.load(Ordering::Relaxed) {
        let name = caller.start(&uuid()).await;
        let cancel = async |after| {
            tokio::time::sleep(Duration::from_millis(after)).await;
            caller.cancel(&name).await;
        };
        match random.u8(..4) {
            0 => drop(tokio::join!(cancel(random.u64(..20)), caller.follow(&name))),
            1 => drop(caller.follow_until_done(&name).await),
            _ => drop(caller.follow(&name).await),
        }
    }
}
