//! The process is killed before a commit, between a commit and its answer, and at random moments under load.

use std::error::Error as _;

use harness::{RawCall, Session, eventually, uuid};
use prost::Message as _;

use super::evidence::Evidence;
use super::random::Moments;
use super::system::System;

/// The number of bursts, each with a kill in the middle.
const BURSTS: usize = 5;

on_both!(kill_before_the_commit_starts_nothing, 1);
fn kill_before_the_commit_starts_nothing(mut system: System) {
    let caller = system.caller();
    let first = system.run(caller.start(&uuid()));
    system.run(caller.follow(&first));

    // A commit needs the owner's counter last; on SQLite it needs the one writer first.
    let mut holder = Session::open(&system.database);
    if system.database.starts_with("sqlite:") {
        holder.execute("BEGIN IMMEDIATE");
    } else {
        holder.execute("BEGIN; SELECT next FROM feed_owner FOR UPDATE");
    }
    let id = uuid();
    let asking = system.spawn({
        let (caller, id) = (caller.clone(), id.clone());
        async move { caller.try_start(&id).await }
    });
    if system.database.starts_with("sqlite:") {
        eventually("the request is in flight", || {
            system.process().http("/metrics").contains(r#"grpc_method="RenderArtwork"} 1"#).then_some(())
        });
    } else {
        let mut onlooker = Session::open(&system.database);
        eventually("the transaction waits at its last statement", || onlooker.waits_for_a_lock().then_some(()));
    }
    system.kill(0, |_| drop(holder));
    assert!(system.join(vec![asking])[0].is_err(), "the start was acknowledged");
    assert!(Evidence::collect(&system.database).started(&id).is_empty(), "the operation exists without a commit");

    let name = system.run(caller.start(&id));
    system.run(caller.follow(&name));
    assert_eq!(system.verdict().started(&id), [&name]);
}

on_both!(kill_before_the_answer_starts_once, 1);
fn kill_before_the_answer_starts_once(mut system: System) {
    let (caller, id) = (system.caller(), uuid());
    system.recorder.asks(&id);
    let mut call = RawCall::begin(system.process().address, "/artwork.v1.ArtworkService/RenderArtwork", &[]);
    call.send(&caller.request(&id).encode_to_vec());
    let begun = eventually("the operation is committed", || {
        Evidence::collect(&system.database).started(&id).first().map(|name| (*name).clone())
    });
    system.kill(0, System::end_leases);

    assert_eq!(system.run(caller.start(&id)), begun);
    system.run(caller.follow(&begun));
    assert_eq!(system.verdict().started(&id), [&begun]);
}

on_both!(kill_at_any_moment_loses_no_acknowledged_start, 1);
fn kill_at_any_moment_loses_no_acknowledged_start(mut system: System) {
    let mut moments = Moments::new();
    for _ in 0..BURSTS {
        let clients = (0..8).map(|_| {
            let caller = system.caller();
            system.spawn(async move {
                // Until the kill closes the connection.
                loop {
                    match caller.try_start(&uuid()).await {
                        Err(status) if status.source().is_some() => return,
                        Err(status) => caller.accept_failure(status).await,
                        Ok(_) => {}
                    }
                }
            })
        });
        let clients: Vec<_> = clients.collect();
        moments.pass(&system, 20..120);
        system.kill(0, |system| {
            let evidence = Evidence::collect(&system.database);
            evidence.assert_whole();
            evidence.assert_agrees(&system.recorder.read());
            system.end_leases();
        });
        system.join(clients);
    }

    // An unacknowledged start may exist or not; a repeat leaves exactly one.
    let asked = system.recorder.read().asked;
    let caller = system.caller();
    system.run(async {
        for id in &asked {
            caller.start(id).await;
        }
    });
    let evidence = system.verdict();
    assert_eq!(evidence.operations.len(), asked.len());
    for id in &asked {
        assert_eq!(evidence.started(id).len(), 1, "{id}");
    }
}
