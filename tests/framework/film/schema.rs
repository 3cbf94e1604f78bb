//! A database whose schema is newer than the program, as a rollback and a rolling upgrade have it; and a database that
//! refuses writes when a replica starts.
//!
//! `scripts/previous` runs the tests of an earlier version on the schema of this one.

use std::path::Path;

use harness::film::{Databases, call, create, render, small_picture, wait};
use harness::{Grpcurl, Postgres, Process, execute};
use serde_json::json;

use crate::bad_start::{FREE, refuses_with};

/// Does what a newer program would do: adds a column to a table of the service and to one of mesh, and a row to each
/// list of migrations. `blob` is an empty value of bytes in the dialect of the database.
fn upgrade(url: &str, table: &str, blob: &str) {
    execute(url, &format!("ALTER TABLE {table} ADD COLUMN colour TEXT"));
    execute(url, "ALTER TABLE operations ADD COLUMN colour TEXT NOT NULL DEFAULT ''");
    for list in ["service_migrations", "mesh_migrations"] {
        let row = "(version, description, installed_on, success, checksum, execution_time)";
        let values = format!("(99, 'from the future', '2030-01-01', true, {blob}, 0)");
        execute(url, &format!("INSERT INTO {list} {row} VALUES {values}"));
    }
}

/// Declares that the schema breaks programs before `version` of the service's list.
fn raise_floor(url: &str, version: i64) {
    execute(url, "CREATE TABLE schema_floor (list TEXT NOT NULL PRIMARY KEY, version BIGINT NOT NULL)");
    execute(url, &format!("INSERT INTO schema_floor (list, version) VALUES ('service_migrations', {version})"));
}

/// Reads and writes both services, and does long work.
fn works(process: &Process) {
    let grpcurl = process.grpcurl();
    let title = create(&grpcurl, "Metropolis");
    let read = call(&grpcurl, "GetTitle", &json!({"title_id": title["titleId"]}));
    assert_eq!(read["title"], title);
    let name = render(&grpcurl, &title["titleId"], &small_picture());
    let done = wait(&grpcurl, &name);
    assert!(done["response"].is_object(), "{done}");
}

fn sqlite(data: &Path, service: &str) -> String {
    format!("sqlite://{}", data.join(format!("{service}.db")).display())
}

#[test]
fn additive_schema_is_accepted() {
    if !Grpcurl::installed() {
        return;
    }
    let folder = Process::start("monolith", &[]).kill();
    let data = folder.path().join("data");
    upgrade(&sqlite(&data, "catalog"), "titles", "x''");
    upgrade(&sqlite(&data, "artwork"), "renditions", "x''");
    let again = Process::start_in(folder, "monolith", &[]);
    works(&again);
    assert!(again.log().contains("newer than this program"), "{}", again.log());
}

#[test]
fn schema_with_a_floor_above_the_program_is_refused() {
    let folder = Process::start("monolith", &[]).kill();
    let data = folder.path().join("data");
    let url = sqlite(&data, "catalog");
    upgrade(&url, "titles", "x''");
    raise_floor(&url, 99);
    let data = format!("--data-dir={}", data.display());
    refuses_with(&["newer than this program", "from version 99", "restore a backup"], &[FREE, &data], |_| ());
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn replicas_run_and_restart_on_an_additive_schema() {
    let Some(postgres) = Postgres::shared().filter(|_| Grpcurl::installed()) else { return };
    let databases = Databases::create(postgres, "additive");
    let running = databases.start();
    works(&running);
    upgrade(&databases.catalog, "titles", "''");
    upgrade(&databases.artwork, "renditions", "''");
    works(&running);
    works(&databases.start());
    raise_floor(&databases.catalog, 99);
    works(&running);
    let url = format!("services.catalog.database_url={}", databases.catalog);
    refuses_with(&["newer than this program", "from version 99"], &[FREE, "--set", &url], |_| ());
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn replica_serves_while_columns_change_their_types() {
    let Some(postgres) = Postgres::shared().filter(|_| Grpcurl::installed()) else { return };
    let databases = Databases::create(postgres, "retyped");
    let running = databases.start();
    let title = create(&running.grpcurl(), "Metropolis");
    let each_connection_reads = || {
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| call(&running.grpcurl(), "GetTitle", &json!({"title_id": title["titleId"]})));
            }
        });
    };
    let update = |revision: u64| {
        let change = json!({"title_id": title["titleId"], "revision": revision.to_string(), "synopsis": "A film"});
        call(&running.grpcurl(), "UpdateTitle", &json!({"title": change, "update_mask": {"paths": ["synopsis"]}}));
    };
    each_connection_reads();
    update(1);
    works(&running);
    // The plans of SELECT name and of SELECT width, height are stale.
    execute(&databases.catalog, "ALTER TABLE titles ALTER COLUMN name TYPE VARCHAR(200)");
    execute(&databases.artwork, "ALTER TABLE renditions ALTER COLUMN width TYPE INTEGER");
    update(2);
    each_connection_reads();
    works(&running);
    assert!(!running.log().contains("cached plan"), "{}", running.log());
}

#[test]
#[ignore = "needs Postgres: .ci/full"]
fn replica_starts_on_a_read_only_database() {
    let Some(postgres) = Postgres::shared().filter(|_| Grpcurl::installed()) else { return };
    let databases = Databases::create(postgres, "read_only");
    let title = create(&databases.start().grpcurl(), "Metropolis");
    for url in [&databases.catalog, &databases.artwork] {
        let (_, name) = url.rsplit_once('/').expect("a database");
        execute(url, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    }
    let read_only = databases.start();
    let read = call(&read_only.grpcurl(), "GetTitle", &json!({"title_id": title["titleId"]}));
    assert_eq!(read["title"], title);
}
