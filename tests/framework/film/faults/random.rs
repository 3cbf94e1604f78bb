//! All of it at once: clients that start, follow and cancel, and a process that is killed again and again while they do.
//!
//! A few kills by default; `scripts/soak` asks for more. The seed is printed: it decides what is killed, after how many
//! lines of the recorder, and what clients cancel; when each of them gets its turn is the machine's business.

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

/// When something happens.
pub(super) struct Moments {
    random: fastrand::Rng,
}

impl Moments {
    /// Says by which seed.
    pub(super) fn new() -> Self {
        let seed = asked("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
        say(&format!("SOAK_SEED={seed}"));
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// Until the recorder has seen as much more as chance wants, and then a little longer.
    pub(super) fn pass(&mut self, system: &System, lines: Range<usize>) {
        system.recorder.grows(self.random.usize(lines));
        system.pause(Duration::from_micros(self.random.u64(..5000)));
    }
}

/// Not by a macro of the standard library, which the test runner would swallow.
fn say(what: &str) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: {what}");
}

/// What `scripts/soak` wants instead of the default.
pub(super) fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

on_both!(whatever_is_killed_whenever_it_holds, 2);
fn whatever_is_killed_whenever_it_holds(mut system: System) {
    let mut moments = Moments::new();
    let enough = Arc::new(AtomicBool::new(false));
    let clients = (0..CLIENTS).map(|client| {
        let picture = if client < CLIENTS / 2 { small_picture() } else { smallest_picture() };
        let caller = system.caller_of(client % system.replicas()).with_image(&picture);
        system.spawn(keep_on(caller, moments.random.fork(), Arc::clone(&enough)))
    });
    let clients = clients.collect();
    for kill in 1..=asked("SOAK_KILLS").unwrap_or(5) {
        moments.pass(&system, 1..80);
        let killed = moments.random.usize(..system.replicas());
        system.kill(killed, |system| {
            Evidence::collect(&system.database).assert_whole();
            system.end_leases();
        });
        if kill % 20 == 0 {
            say(&format!("{kill} kills"));
        }
    }
    system.recorder.grows(50);
    enough.store(true, Ordering::Relaxed);
    system.join(clients);

    let evidence = system.verdict();
    let asked = system.recorder.read().asked;
    assert_eq!(evidence.operations.len(), asked.len(), "each request that was repeated is one operation");
    let ended = [State::Succeeded, State::Cancelled, State::Failed].map(|state| evidence.ended(state));
    say(&format!("{} operations; {ended:?} have succeeded, were cancelled, were given up", asked.len()));
    assert!(ended[0] > 0);
}

/// Starts one after the other, cancels some, and follows all of them, by one way or the other.
async fn keep_on(caller: Caller, mut random: fastrand::Rng, enough: Arc<AtomicBool>) {
    while !enough.load(Ordering::Relaxed) {
        let name = caller.start(&uuid()).await;
        let cancel = async |after| {
            tokio::time::sleep(Duration::from_millis(after)).await;
            caller.cancel(&name).await;
        };
        match random.u8(..4) {
            0 => drop(tokio::join!(cancel(random.u64(..20)), caller.follow(&name))),
            1 => drop(caller.follow_with_help(&name).await),
            _ => drop(caller.follow(&name).await),
        }
    }
}
