//! The schema of operations and of their feed. Applied migrations never change; new ones are added below.

use mesh_store::Migration;

/// All of it, in order. The first migration of mesh is for request ids, in mesh-store.
pub const SCHEMA: [Migration; 5] = [OPERATIONS, LISTS, RETENTION, KINDS, WAITING];

/// `worker` decides nothing: it is for whoever looks into a database that stands still.
///
/// Input stands apart: beside the state it would be written again with every progress. Empty bytes stand for nothing,
/// since a NULL has a type in Postgres and none in SQLite.
const OPERATIONS: Migration = Migration::new(
    2,
    "operations",
    "CREATE TABLE operations (
        id TEXT NOT NULL PRIMARY KEY,
        owner TEXT NOT NULL,
        kind TEXT NOT NULL,
        request_id TEXT NOT NULL,
        request_hash BYTEA NOT NULL,
        state BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        attempt BIGINT NOT NULL,
        fence BIGINT NOT NULL,
        worker TEXT NOT NULL,
        lease_until BIGINT NOT NULL,
        run_at BIGINT NOT NULL,
        deadline_at BIGINT NOT NULL,
        cancel_requested BIGINT NOT NULL,
        progress BYTEA NOT NULL,
        result BYTEA NOT NULL,
        created BIGINT NOT NULL,
        updated BIGINT NOT NULL,
        finished BIGINT NOT NULL,
        UNIQUE (owner, kind, request_id)
    );
    CREATE INDEX operations_claimable ON operations (run_at) WHERE state = 1;
    CREATE INDEX operations_running ON operations (lease_until) WHERE state = 2;
    CREATE INDEX operations_of_owner ON operations (owner, id);
    CREATE INDEX operations_changed ON operations (updated);
    CREATE TABLE operation_input (operation TEXT NOT NULL PRIMARY KEY, input BYTEA NOT NULL);
    CREATE TABLE operation_steps (
        operation TEXT NOT NULL,
        name TEXT NOT NULL,
        result BYTEA NOT NULL,
        PRIMARY KEY (operation, name)
    );
    CREATE TABLE feed_owner (owner TEXT NOT NULL PRIMARY KEY, next BIGINT NOT NULL, floor BIGINT NOT NULL);
    CREATE TABLE feed (
        owner TEXT NOT NULL,
        position BIGINT NOT NULL,
        operation TEXT NOT NULL,
        revision BIGINT NOT NULL,
        type BIGINT NOT NULL,
        payload BYTEA NOT NULL,
        PRIMARY KEY (owner, position)
    );
    CREATE UNIQUE INDEX feed_of_operation ON feed (operation, revision);
    CREATE TABLE store_meta (id BIGINT NOT NULL PRIMARY KEY, epoch TEXT NOT NULL);",
);

/// What a list is filtered by. Most operations have succeeded, so those that have not are worth an index each, and cost
/// none of it in the end.
const LISTS: Migration = Migration::new(
    3,
    "operations_lists",
    "CREATE INDEX operations_open ON operations (owner, id) WHERE state < 3;
    CREATE INDEX operations_unsuccessful ON operations (owner, id) WHERE state > 3;
    CREATE INDEX operations_of_kind ON operations (owner, kind, id);",
);

/// When the feed told something, by the clock of the database, and which operations have ended, by when.
const RETENTION: Migration = Migration::new(
    4,
    "operations_retention",
    "ALTER TABLE feed ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
    UPDATE feed SET told = COALESCE((SELECT updated FROM operations WHERE operations.id = feed.operation), 0);
    CREATE INDEX operations_finished ON operations (finished) WHERE finished > 0;",
);

/// Of what kind of work the feed tells, so that whoever wants some kinds is not told of the others.
const KINDS: Migration = Migration::new(
    5,
    "operations_kinds",
    "ALTER TABLE feed ADD COLUMN kind TEXT NOT NULL DEFAULT '';
    UPDATE feed SET kind = COALESCE((SELECT kind FROM operations WHERE operations.id = feed.operation), '');",
);

/// What waits to be worked on, by kind: a worker of one kind must not read past a queue of another. Nobody asks by
/// `updated` any more.
const WAITING: Migration = Migration::new(
    6,
    "operations_waiting",
    "CREATE INDEX operations_waiting ON operations (kind, run_at) WHERE state = 1;
    DROP INDEX operations_claimable;
    DROP INDEX operations_changed;",
);
