//! The migrations of operations and of their feed. Applied migrations never change; new ones are added below.

use mesh_store::Migration;

/// The migrations in order, from version 2. Version 1 of mesh, the table of request ids, is in mesh-store.
pub const SCHEMA: [Migration; 8] = [OPERATIONS, LISTS, RETENTION, KINDS, WAITING, CLEAN_UPS, SAGAS, CAUSES];

/// `worker` is for an operator who inspects the database; no query uses it.
///
/// Input has its own table: in the row of the operation, each write of progress would write it again. Empty bytes stand
/// for an absent value, since a NULL has a type in Postgres and none in SQLite.
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

/// The indexes of filtered lists. Most operations have succeeded, so the partial indexes of the others stay small.
const LISTS: Migration = Migration::new(
    3,
    "operations_lists",
    "CREATE INDEX operations_open ON operations (owner, id) WHERE state < 3;
    CREATE INDEX operations_unsuccessful ON operations (owner, id) WHERE state > 3;
    CREATE INDEX operations_of_kind ON operations (owner, kind, id);",
);

/// `told` is the time of a feed row, by the clock of the database. The index finds operations by their end.
const RETENTION: Migration = Migration::new(
    4,
    "operations_retention",
    "ALTER TABLE feed ADD COLUMN told BIGINT NOT NULL DEFAULT 0;
    UPDATE feed SET told = COALESCE((SELECT updated FROM operations WHERE operations.id = feed.operation), 0);
    CREATE INDEX operations_finished ON operations (finished) WHERE finished > 0;",
);

/// The kind of work of a feed row, by which a subscription filters.
const KINDS: Migration = Migration::new(
    5,
    "operations_kinds",
    "ALTER TABLE feed ADD COLUMN kind TEXT NOT NULL DEFAULT '';
    UPDATE feed SET kind = COALESCE((SELECT kind FROM operations WHERE operations.id = feed.operation), '');",
);

/// The index of pending operations by kind, so that a worker of one kind does not read through the queue of another. No
/// query uses `updated` any more.
const WAITING: Migration = Migration::new(
    6,
    "operations_waiting",
    "CREATE INDEX operations_waiting ON operations (kind, run_at) WHERE state = 1;
    DROP INDEX operations_claimable;
    DROP INDEX operations_changed;",
);

/// A row for each clean-up that is not done: when it is `due`, its `tries`, and when its operation `ended`. `trace` is
/// the `traceparent` of the call that started an operation. The index of deadlines serves housekeeping.
const CLEAN_UPS: Migration = Migration::new(
    7,
    "operations_clean_ups",
    "CREATE TABLE operation_clean_ups (
        operation TEXT NOT NULL PRIMARY KEY,
        kind TEXT NOT NULL,
        due BIGINT NOT NULL,
        tries BIGINT NOT NULL,
        ended BIGINT NOT NULL
    );
    CREATE INDEX operation_clean_ups_due ON operation_clean_ups (kind, due);
    CREATE INDEX operation_clean_ups_ended ON operation_clean_ups (ended);
    ALTER TABLE operations ADD COLUMN trace TEXT NOT NULL DEFAULT '';
    CREATE INDEX operations_deadline ON operations (deadline_at) WHERE state < 3;",
);

/// `phase` is that of a saga, 0 for other work, with 4 added while it is stuck; `phase_since` is when it began. A saga
/// that undoes its steps has the error that it will end with as its `result`. `position` is the order in which the
/// steps began; `result` is emptied at the end of the operation.
const SAGAS: Migration = Migration::new(
    9,
    "operations_sagas",
    "ALTER TABLE operations ADD COLUMN phase BIGINT NOT NULL DEFAULT 0;
    ALTER TABLE operations ADD COLUMN phase_since BIGINT NOT NULL DEFAULT 0;
    CREATE INDEX operations_stuck ON operations (kind) WHERE phase > 4;
    CREATE TABLE saga_steps (
        operation TEXT NOT NULL,
        name TEXT NOT NULL,
        position BIGINT NOT NULL,
        state BIGINT NOT NULL,
        attempt BIGINT NOT NULL,
        begun BIGINT NOT NULL,
        ended BIGINT NOT NULL,
        error BYTEA NOT NULL,
        result BYTEA NOT NULL,
        PRIMARY KEY (operation, name)
    );",
);

/// The cause of the call that started an operation, as the header `mesh-cause` has it; empty for a call that began
/// something, whose cause is its trace.
const CAUSES: Migration =
    Migration::new(11, "operations_causes", "ALTER TABLE operations ADD COLUMN cause TEXT NOT NULL DEFAULT '';");
