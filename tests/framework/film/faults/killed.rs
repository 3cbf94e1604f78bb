//! The process dies: before a commit, between a commit and its answer, and at any moment of many of them.

use std::error::Error as _;

use harness::{RawCall, Session, eventually, uuid};
use prost::Message as _;

use super::evidence::Evidence;
use super::random::Moments;
use super::system::System;

/// Of how many bursts the process is killed in the middle.
const BURSTS: usize = 5;

on_both!(what_is_killed_before_its_commit_has_not_begun, 1);
fn what_is_killed_before_its_commit_has_not_begun(mut system: System) {
    let caller = system.caller();
    let first = system.run(caller.start(&uuid()));
    system.run(caller.follow(&first));

    // Whoever commits needs the owner's counter last of all; and on SQLite the one writer first of all.
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
        eventually("it is asked for", || {
            system.process().http("/metrics").contains(r#"grpc_method="RenderArtwork"} 1"#).then_some(())
        });
    } else {
        let mut onlooker = Session::open(&system.database);
        eventually("it has come to its last statement", || onlooker.waits_for_a_lock().then_some(()));
    }
    system.kill(0, |_| drop(holder));
    assert!(system.join(vec![asking])[0].is_err(), "nobody has acknowledged it");
    assert!(Evidence::collect(&system.database).started(&id).is_empty(), "it is there without a commit");

    let name = system.run(caller.start(&id));
    system.run(caller.follow(&name));
    assert_eq!(system.verdict().started(&id), [&name]);
}

on_both!(what_is_killed_before_its_answer_has_begun_once, 1);
fn what_is_killed_before_its_answer_has_begun_once(mut system: System) {
    let (caller, id) = (system.caller(), uuid());
    system.recorder.asks(&id);
    let mut call = RawCall::begin(system.process().address, "/artwork.v1.ArtworkService/RenderArtwork", &[]);
    call.send(&caller.request(&id).encode_to_vec());
    let begun = eventually("it is committed", || {
        Evidence::collect(&system.database).started(&id).first().map(|name| (*name).clone())
    });
    system.kill(0, System::end_leases);

    assert_eq!(system.run(caller.start(&id)), begun);
    system.run(caller.follow(&begun));
    assert_eq!(system.verdict().started(&id), [&begun]);
}

on_both!(a_kill_at_any_moment_loses_nothing_that_was_acknowledged, 1);
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged(mut system: System) {
    let mut moments = Moments::new();
    for _ in 0..BURSTS {
        let clients = (0..8).map(|_| {
            let caller = system.caller();
            system.spawn(async move {
                // Until it is cut off.
                loop {
                    match caller.try_start(&uuid()).await {
                        Err(status) if status.source().is_some() => return,
                        Err(status) => caller.bear(status).await,
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

    // What was not acknowledged may be there or not; asked for again, it is there once.
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
