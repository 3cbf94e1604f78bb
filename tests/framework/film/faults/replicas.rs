//! Two replicas share a database, and one of them stands still, is replaced, or does something that the other one is
//! asked about.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contracts::mesh::operations::v1::State;
use harness::film::large_picture;
use harness::{Session, eventually, uuid};
use tonic::Code;

use super::caller::metadata;
use super::system::System;

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn a_worker_that_stood_still_for_too_long_changes_nothing() {
    let Some(mut system) = System::postgres(2) else { return };
    let caller = system.caller().with_image(&large_picture());
    let mut database = Session::open(&system.database);
    let (name, worker) = loop {
        let name = system.run(caller.start(&uuid()));
        let begun = |index| system.says(index, "\"begun\"", &name);
        let worker = eventually("somebody works on it", || [0, 1].into_iter().find(|index| begun(*index)));
        system.replica(worker).signal("STOP");
        let (_, id) = name.rsplit_once('/').expect("a name");
        if database.count(&format!("SELECT count(*) FROM operations WHERE id = '{id}' AND state = 2")) == 1 {
            break (name, worker);
        }
        // It was faster: once more.
        system.replica(worker).signal("CONT");
    };

    // Whoever follows it at the other one is told how it goes on; whoever follows it at this one, once it moves again.
    let (still, other) = (system.caller_of(worker), system.caller_of(1 - worker));
    let waiting = system.spawn({
        let name = name.clone();
        async move { still.follow_with_help(&name).await }
    });
    let end = system.run(other.follow(&name));
    assert_eq!((metadata(&end).state(), metadata(&end).attempt), (State::Succeeded, 2), "{end:?}");

    system.replica(worker).signal("CONT");
    eventually("its write is refused", || system.says(worker, "the lease was lost", &name).then_some(()));
    assert_eq!(system.join(vec![waiting])[0], end);
    system.verdict();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn a_process_that_stands_still_in_a_transaction_does_not_hold_the_others() {
    let Some(mut system) = System::postgres(2) else { return };
    let (caller, other) = (system.caller(), system.caller_of(1));
    let first = system.run(caller.start(&uuid()));
    system.run(caller.follow(&first));

    // It is stopped while it waits for the row that all operations of an owner share, and then gets it.
    let mut holder = Session::open(&system.database);
    holder.execute("BEGIN; SELECT next FROM feed_owner FOR UPDATE");
    let id = uuid();
    let asking = system.spawn({
        let (caller, id) = (caller.clone(), id.clone());
        async move { caller.try_start(&id).await }
    });
    let mut onlooker = Session::open(&system.database);
    eventually("it waits", || onlooker.waits_for_a_lock().then_some(()));
    system.replica(0).signal("STOP");
    holder.execute("ROLLBACK");

    let name = system.run(other.start(&uuid()));
    system.run(other.follow(&name));
    system.replica(0).signal("CONT");
    let refused = system.join(vec![asking]).remove(0).expect_err("its transaction is over");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    system.run(async { caller.follow(&caller.start(&id).await).await });
    system.verdict();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn what_another_replica_did_is_told_within_the_poll() {
    let Some(system) = System::postgres(2) else { return };
    // All workers of both have something to do.
    let busy = system.caller().with_image(&large_picture());
    let busy = system.run(async {
        let mut names = Vec::new();
        for _ in 0..6 {
            names.push(busy.start(&uuid()).await);
        }
        names
    });
    let (here, there) = (system.caller(), system.caller_of(1));
    for _ in 0..5 {
        let name = system.run(here.start(&uuid()));
        let before = system.recorder.lines();
        let following = system.spawn({
            let (there, name) = (there.clone(), name.clone());
            async move { (there.follow(&name).await, Instant::now()) }
        });
        // It follows, and has been told what there is.
        system.recorder.reaches(before + 2);
        system.run(here.cancel(&name));
        let cancelled = Instant::now();
        let (_, told) = system.join(vec![following]).remove(0);
        // The poll is twice a second. Without it, a heartbeat after 15 s would bring it.
        let late = told.saturating_duration_since(cancelled);
        assert!(late < Duration::from_secs(5), "told after {late:?}");
    }
    for name in busy {
        system.run(here.cancel(&name));
    }
    system.verdict();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn replicas_are_replaced_one_by_one_and_nobody_notices() {
    let Some(mut system) = System::postgres(2) else { return };
    let enough = Arc::new(AtomicBool::new(false));
    let clients = (0..6).map(|client| {
        let caller = system.caller_of(client % 2).strict();
        system.spawn(caller.keep_on(client < 3, Arc::clone(&enough)))
    });
    let clients = clients.collect();
    for replica in [0, 1, 0, 1] {
        system.recorder.grows(100);
        system.replace(replica);
    }
    system.recorder.grows(100);
    enough.store(true, Ordering::Relaxed);
    system.join(clients);
    let evidence = system.verdict();
    assert_eq!(evidence.ended(State::Succeeded), evidence.operations.len());
}
