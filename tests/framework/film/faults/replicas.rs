//! Two replicas share a database, and one of them stalls, is replaced, or changes an operation that a client of the
//! other watches.

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
fn lease_expiry_hands_the_work_over() {
    let Some(mut system) = System::postgres(2) else { return };
    let caller = system.caller().with_image(&large_picture());
    let mut database = Session::open(&system.database);
    let (name, worker) = loop {
        let name = system.run(caller.start(&uuid()));
        let begun = |index| system.logs(index, "\"begun\"", &name);
        let worker = eventually("a replica works on it", || [0, 1].into_iter().find(|index| begun(*index)));
        system.replica(worker).signal("STOP");
        let (_, id) = name.rsplit_once('/').expect("a name");
        if database.count(&format!("SELECT count(*) FROM operations WHERE id = '{id}' AND state = 2")) == 1 {
            break (name, worker);
        }
        // The work ended before the stop: try again.
        system.replica(worker).signal("CONT");
    };

    // A watcher at the other replica sees the work continue; a watcher at the stopped one sees it after the replica
    // resumes.
    let (still, other) = (system.caller_of(worker), system.caller_of(1 - worker));
    let waiting = system.spawn({
        let name = name.clone();
        async move { still.follow_until_done(&name).await }
    });
    let end = system.run(other.follow(&name));
    assert_eq!((metadata(&end).state(), metadata(&end).attempt), (State::Succeeded, 2), "{end:?}");

    system.replica(worker).signal("CONT");
    eventually("its write is refused", || system.logs(worker, "the lease was lost", &name).then_some(()));
    assert_eq!(system.join(vec![waiting])[0], end);
    system.verdict();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn stopped_transaction_does_not_block_other_replicas() {
    let Some(mut system) = System::postgres(2) else { return };
    let (caller, other) = (system.caller(), system.caller_of(1));
    let first = system.run(caller.start(&uuid()));
    system.run(caller.follow(&first));

    // The replica is stopped while it waits for the counter's row, which all operations of an owner share, and then
    // gets it.
    let mut holder = Session::open(&system.database);
    holder.execute("BEGIN; SELECT next FROM feed_owner FOR UPDATE");
    let id = uuid();
    let asking = system.spawn({
        let (caller, id) = (caller.clone(), id.clone());
        async move { caller.try_start(&id).await }
    });
    let mut onlooker = Session::open(&system.database);
    eventually("the transaction waits for the lock", || onlooker.waits_for_a_lock().then_some(()));
    system.replica(0).signal("STOP");
    holder.execute("ROLLBACK");

    let name = system.run(other.start(&uuid()));
    system.run(other.follow(&name));
    system.replica(0).signal("CONT");
    let refused = system.join(vec![asking]).remove(0).expect_err("its transaction was ended");
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
    system.run(async { caller.follow(&caller.start(&id).await).await });
    system.verdict();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn poll_reports_changes_of_other_replicas() {
    let Some(system) = System::postgres(2) else { return };
    // All workers of both replicas are busy.
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
        // The watcher has received the snapshot.
        system.recorder.reaches(before + 2);
        system.run(here.cancel(&name));
        let cancelled = Instant::now();
        let (_, received) = system.join(vec![following]).remove(0);
        // The poll runs twice a second. Without it, the change would arrive with a heartbeat after 15 s.
        let late = received.saturating_duration_since(cancelled);
        assert!(late < Duration::from_secs(5), "received after {late:?}");
    }
    for name in busy {
        system.run(here.cancel(&name));
    }
    system.verdict();
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn rolling_restart_of_replicas_fails_no_call() {
    let Some(mut system) = System::postgres(2) else { return };
    runs_through_a_rolling_restart(&mut system, &[0, 1, 0, 1]);
}

/// Replaces these replicas of two, one after the other, while clients of both start operations and follow them.
pub(super) fn runs_through_a_rolling_restart(system: &mut System, replicas: &[usize]) {
    let enough = Arc::new(AtomicBool::new(false));
    let clients = (0..6).map(|client| {
        let caller = system.caller_of(client % 2).strict();
        system.spawn(caller.run_until(client < 3, Arc::clone(&enough)))
    });
    let clients = clients.collect();
    for replica in replicas {
        system.recorder.grows(100);
        system.replace(*replica);
    }
    system.recorder.grows(100);
    enough.store(true, Ordering::Relaxed);
    system.join(clients);
    let evidence = system.verdict();
    assert_eq!(evidence.ended(State::Succeeded), evidence.operations.len());
}
