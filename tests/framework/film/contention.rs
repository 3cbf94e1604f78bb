//! Statements of others end those of a service, or keep it from the database: a deadlock, a cancelled statement, a
//! pooler whose sessions are all in use.

use std::process::Child;

use harness::film::create;
use harness::{Grpcurl, PgBouncer, Postgres, Process, Session, eventually, uuid};
use serde_json::{Value, json};

const SUBSCRIBE: &str = "mesh.operations.v1.OperationEventsService/Subscribe";
const CREATE: &str = "catalog.v1.CatalogService/CreateTitle";

fn new_title(request_id: &str) -> Value {
    json!({"request_id": request_id, "name": "Metropolis", "synopsis": "", "year": 1927, "price_cents": 1})
}

/// A monolith whose `service` is on a database of its own, and the URL of that database.
fn on_postgres(service: &str) -> Option<(Process, String)> {
    let postgres = Postgres::shared().filter(|_| Grpcurl::installed())?;
    let url = postgres.database(&format!("contention_{}", uuid().replace('-', "")));
    let key = format!("MESH__SERVICES__{}__DATABASE_URL", service.to_uppercase());
    // Longer than a test waits: no other limit ends a statement.
    Some((Process::start("monolith", &[(&*key, &*url), ("MESH__DATABASE__LOCK_TIMEOUT", "1min")]), url))
}

fn is_ready(process: &Process) {
    let ready = process.http("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200") && !ready.contains("degraded"), "{ready}");
}

fn output(call: Child) -> String {
    let output = call.wait_with_output().expect("grpcurl runs");
    String::from_utf8(output.stderr).expect("UTF-8")
}

fn assert_busy(failure: &str) {
    for word in ["Code: Unavailable", "DATABASE_UNAVAILABLE", "\"condition\":\"busy\""] {
        assert!(failure.contains(word), "{word} is not in: {failure}");
    }
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn deadlock_with_another_session_is_busy() {
    let Some((process, url)) = on_postgres("catalog") else { return };
    let (mut other, mut onlooker) = (Session::open(&url), Session::open(&url));
    // The service is the one that looks for the deadlock.
    other.execute("SET deadlock_timeout = '1min'; BEGIN; LOCK TABLE titles IN EXCLUSIVE MODE");
    let id = uuid();
    let writing = process.grpcurl().open_with(CREATE, &new_title(&id));
    eventually("the write waits", || onlooker.waits_for_a_lock().then_some(()));
    let claim = format!(
        "INSERT INTO mesh_requests (request_id, request_hash, response, create_time) VALUES ('{id}', '', '', 0)"
    );
    other.execute(&claim);
    assert_busy(&output(writing));
    is_ready(&process);
    other.execute("ROLLBACK");
    let again = process.grpcurl().call(CREATE, &new_title(&id));
    assert!(!again.failed(), "{again:?}");
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn cancelled_statement_ends_a_stream_as_busy() {
    let Some((process, url)) = on_postgres("artwork") else { return };
    let (mut other, mut onlooker) = (Session::open(&url), Session::open(&url));
    // The stream begins, and its snapshot waits.
    other.execute("BEGIN; LOCK TABLE operations IN ACCESS EXCLUSIVE MODE");
    let mut following = process.grpcurl().open_with(SUBSCRIBE, &json!({"parent": "services/artwork"}));
    eventually("the stream ends", || {
        onlooker.execute(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        following.try_wait().expect("a child")
    });
    assert_busy(&output(following));
    is_ready(&process);
}

#[test]
#[ignore = "needs PgBouncer: .ci/full"]
fn pooler_without_a_free_session_is_away_until_one_is_free() {
    let Some(postgres) = Postgres::shared().filter(|_| Grpcurl::installed()) else { return };
    let url = postgres.database("contention_pooled");
    let Some(pooler) = PgBouncer::start(&url, 1) else { return };
    let through = pooler.through(&url);
    let settings = [("MESH__SERVICES__CATALOG__DATABASE_URL", &*through), ("MESH__DATABASE__LOCK_TIMEOUT", "20s")];
    let process = Process::start("monolith", &settings);
    create(&process.grpcurl(), "Metropolis");
    let (mut other, mut onlooker) = (Session::open(&url), Session::open(&url));
    other.execute("BEGIN; LOCK TABLE titles IN EXCLUSIVE MODE");
    // It has the only session.
    let writing = process.grpcurl().open_with(CREATE, &new_title(&uuid()));
    eventually("the write waits", || onlooker.waits_for_a_lock().then_some(()));

    eventually("it is not ready", || {
        let page = process.http("/readyz");
        (page.starts_with("HTTP/1.1 503") && page.contains("catalog: not ready: the database is away")).then_some(())
    });
    let answer = process.grpcurl().run(&["-max-time", "1"], &["catalog.v1.CatalogService/ListTitles"]);
    assert_eq!(answer.failure().0, "DeadlineExceeded");
    other.execute("ROLLBACK");
    assert_eq!(output(writing), "");
    eventually("it is ready", || process.http("/readyz").starts_with("HTTP/1.1 200").then_some(()));
}
