//! Long work after a fault that no test in one process can provoke: a kill within the clean-up, and a clock that went
//! back.

use harness::film::{Databases, create, large_picture, render};
use harness::{Grpcurl, Postgres, Process, Session, eventually, execute};
use serde_json::{Value, json};

fn get(grpcurl: &Grpcurl, name: &str) -> Value {
    grpcurl.call("google.longrunning.Operations/GetOperation", &json!({"name": name})).json()
}

/// A cancelled rendering leaves no picture, even if its process is killed within the clean-up.
#[test]
#[ignore = "needs Postgres: .ci/full"]
fn clean_up_survives_a_kill_within_it() {
    if !Grpcurl::installed() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let databases = Databases::create(&postgres, "cleaned");
    let process = databases.start();
    let grpcurl = process.grpcurl();
    let title = create(&grpcurl, "Metropolis")["titleId"].clone();
    let name = render(&grpcurl, &title, &large_picture());
    let (mut holder, mut onlooker) = (Session::open(&databases.artwork), Session::open(&databases.artwork));
    let pictures = "SELECT count(*) FROM renditions";
    eventually("the first picture", || (onlooker.count(pictures) > 0).then_some(()));

    // From here on no picture is written or deleted, so the clean-up cannot end.
    holder.execute("BEGIN; LOCK TABLE renditions IN SHARE MODE");
    grpcurl.call("google.longrunning.Operations/CancelOperation", &json!({"name": name})).json();
    let ended = eventually("the end", || Some(get(&grpcurl, &name)).filter(|operation| operation["done"] == true));
    assert_eq!(ended["metadata"]["state"], "STATE_CANCELLED", "the clean-up hides no end: {ended}");
    let claimed = "SELECT count(*) FROM operation_clean_ups WHERE tries = 1";
    eventually("the clean-up waits for the lock", || {
        (onlooker.count(claimed) == 1 && onlooker.waits_for_a_lock()).then_some(())
    });
    let folder = process.kill();
    holder.execute("ROLLBACK");
    let left = onlooker.count(pictures);
    assert!(left > 0, "the killed clean-up had no effect");

    // Another process takes over when the claim of the killed one ends, after 30 s.
    let process = databases.start_in(folder);
    let open = "SELECT count(*) FROM operation_clean_ups";
    harness::eventually_within(std::time::Duration::from_secs(60), "the clean-up is done", || {
        (onlooker.count(open) == 0).then_some(())
    });
    assert_eq!(onlooker.count(pictures), 0);
    assert_eq!(get(&process.grpcurl(), &name), ended, "a done operation never changes");
}

/// A process whose clock was a day ahead is killed, and the next one has the right clock.
#[test]
fn clock_that_went_back_delays_no_operation() {
    if !Grpcurl::installed() {
        return;
    }
    // One operation at a time, so that the others are pending.
    let process = Process::start("monolith", &[("MESH__SERVICES__ARTWORK__CONCURRENCY", "1")]);
    let grpcurl = process.grpcurl();
    let title = create(&grpcurl, "Metropolis")["titleId"].clone();
    let picture = large_picture();
    let names: Vec<_> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| render(&grpcurl, &title, &picture))).collect();
        starts.into_iter().map(|start| start.join().expect("a start")).collect()
    });
    let folder = process.kill();
    let database = format!("sqlite://{}", folder.path().join("data/artwork.db").display());
    let waiting = Session::open(&database).count("SELECT count(*) FROM operations WHERE state = 1");
    assert!(waiting > 0, "no operation was pending when the process was killed");
    // What the killed process would have stored with its clock a day ahead.
    let day = "86400000000";
    let columns = ["created", "updated", "run_at", "lease_until", "deadline_at"];
    let ahead = columns.map(|column| format!("{column} = {column} + {day}")).join(", ");
    execute(&database, &format!("UPDATE operations SET {ahead} WHERE state < 3"));

    let process = Process::start_in(folder, "monolith", &[]);
    for name in &names {
        let ended =
            eventually("the end", || Some(get(&process.grpcurl(), name)).filter(|operation| operation["done"] == true));
        assert_eq!(ended["metadata"]["state"], "STATE_SUCCEEDED", "{ended}");
    }
    assert!(process.log().contains("the clock went back"), "{}", process.log());
}
