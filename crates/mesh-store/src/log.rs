//! The log of a database: rows that transactions publish, numbered without holes in the order of their commits.
//!
//! A transaction keeps its rows in memory and writes them last, behind the locks of its other rows. On SQLite the group
//! numbers the rows of its members before its COMMIT. On Postgres a transaction writes `events_staged`, and
//! [`sequencer`](super::sequencer) numbers the rows after the commit.
//!
//! Guarantees:
//! - A row commits with the transaction that published it, or not at all (INV-16).
//! - Positions have no holes. The rows of two transactions that wait for each other at a lock, or of which one began
//!   after the other had returned, are in this order.
//!
//! See: docs/decisions/0034-events-are-numbered-at-the-commit.md

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::connection::Connection;
use super::dialect::Dialect;
use super::error::Error;
use super::migrate::Migration;
use super::rows::Column::{Bytes, Number, Text};
use super::rows::hex;
use super::time::now;

/// The tables of the log.
///
/// `told` is the time by the clock of the database. `floor` is the first position that is kept. SQLite does not use
/// `events_staged`.
pub const LOG: Migration = Migration::new(
    8,
    "events",
    "CREATE TABLE events (
        position BIGINT NOT NULL PRIMARY KEY,
        id TEXT NOT NULL,
        key TEXT NOT NULL,
        type TEXT NOT NULL,
        told BIGINT NOT NULL,
        trace TEXT NOT NULL,
        correlation TEXT NOT NULL,
        causation TEXT NOT NULL,
        hops BIGINT NOT NULL,
        payload BYTEA NOT NULL
    );
    CREATE TABLE events_head (id BIGINT NOT NULL PRIMARY KEY, head BIGINT NOT NULL, floor BIGINT NOT NULL);
    INSERT INTO events_head (id, head, floor) VALUES (1, 0, 1);
    CREATE TABLE events_staged (
        staged BIGSERIAL NOT NULL PRIMARY KEY,
        id TEXT NOT NULL,
        key TEXT NOT NULL,
        type TEXT NOT NULL,
        told BIGINT NOT NULL,
        trace TEXT NOT NULL,
        correlation TEXT NOT NULL,
        causation TEXT NOT NULL,
        hops BIGINT NOT NULL,
        payload BYTEA NOT NULL
    );",
);

/// A row that a transaction publishes.
#[derive(Clone, Debug)]
pub struct Published {
    /// Identifies the row to its readers.
    pub id: Uuid,
    /// The subject. Rows of one subject are in the order of its changes.
    pub key: String,
    /// The full name of the type of the payload.
    pub kind: String,
    /// The `traceparent` of the call that published it.
    pub trace: String,
    /// The id that the row shares with all rows of the same first cause.
    pub correlation: Uuid,
    /// The id of the row that caused it; empty for a first cause.
    pub causation: String,
    /// The number of causes before it.
    pub hops: i64,
    /// The content, encoded.
    pub payload: Vec<u8>,
}

/// What transactions and sequencer of one store share.
#[derive(Debug)]
pub(super) struct Log {
    /// The service that owns the database.
    pub(super) service: &'static str,
    /// Rows wait for the sequencer of this process.
    pub(super) staged: Notify,
    /// This process has numbered rows.
    pub(super) numbered: watch::Sender<()>,
}

impl Log {
    pub(super) fn of(service: &'static str) -> Arc<Self> {
        Arc::new(Self { service, staged: Notify::new(), numbered: watch::Sender::new(()) })
    }
}

/// The most rows of one statement.
const ROWS: usize = 1000;
/// The size in bytes above which a payload is bound by itself. As hexadecimal digits it would take twice its size.
const LARGE: usize = 4096;

/// The columns of both tables, apart from the time and the number.
const COLUMNS: &str = "id, key, type, trace, correlation, causation, hops";

/// Numbers rows and writes them: the last statements before the COMMIT of a group of SQLite.
pub(super) async fn number(connection: &mut Connection, rows: &[Published]) -> Result<(), Error> {
    let count = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let raise = sqlx::query("UPDATE events_head SET head = head + $1 WHERE id = 1 RETURNING head").bind(count);
    let head: i64 = raise.fetch_one(&mut *connection).await?.try_get(0)?;
    write(connection, Dialect::Sqlite, "events", rows, head - count + 1).await
}

/// Writes rows for the sequencer: the last statements of a transaction of Postgres.
pub(super) async fn stage(connection: &mut Connection, rows: &[Published]) -> Result<(), Error> {
    // The sequence numbers them by itself, in the order of this transaction.
    write(connection, Dialect::Postgres, "events_staged", rows, 0).await
}

/// Writes rows in their order, those with a large payload one by one.
async fn write(
    connection: &mut Connection,
    dialect: Dialect,
    table: &str,
    rows: &[Published],
    first: i64,
) -> Result<(), Error> {
    let positions = first..;
    let mut rest: Vec<_> = positions.zip(rows).collect();
    while let Some((_, next)) = rest.first() {
        let large = next.payload.len() > LARGE;
        let together = rest.iter().take_while(|(_, row)| !large && row.payload.len() <= LARGE).count();
        let later = rest.split_off(together.clamp(1, ROWS));
        insert(connection, dialect, table, &rest, large).await?;
        rest = later;
    }
    Ok(())
}

/// Writes rows by one statement; a large one has its payload in a parameter of its own.
async fn insert(
    connection: &mut Connection,
    dialect: Dialect,
    table: &str,
    rows: &[(i64, &Published)],
    large: bool,
) -> Result<(), Error> {
    let told = now();
    let sent: Value = rows.iter().map(|(position, row)| json(*position, told, row, large)).collect();
    let mut columns = vec![
        Number("position"),
        Number("told"),
        Text("id"),
        Text("key"),
        Text("type"),
        Text("trace"),
        Text("correlation"),
        Text("causation"),
        Number("hops"),
    ];
    if !large {
        columns.push(Bytes("payload"));
    }
    let sent_rows = dialect.rows(&columns);
    let told = dialect.shared_clock().map_or("told".to_owned(), |clock| format!("({clock})"));
    let payload = if large { "$2" } else { "payload" };
    let position = if dialect == Dialect::Sqlite { "position, " } else { "" };
    let insert = format!(
        "INSERT INTO {table} ({position}{COLUMNS}, told, payload)
        SELECT {position}{COLUMNS}, {told}, {payload} FROM {sent_rows} AS new"
    );
    let mut insert = sqlx::query(AssertSqlSafe(insert)).bind(sent.to_string());
    if large {
        insert = insert.bind(rows.first().map(|(_, row)| row.payload.clone()).unwrap_or_default());
    }
    insert.execute(connection).await?;
    Ok(())
}

fn json(position: i64, told: i64, row: &Published, large: bool) -> Value {
    json!({"position": position, "told": told, "id": row.id.to_string(), "key": row.key, "type": row.kind, "trace": row.trace,
        "correlation": row.correlation.to_string(), "causation": row.causation, "hops": row.hops,
        "payload": if large { String::new() } else { hex(&row.payload) }})
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;
    use crate::{Database, Store, open};

    const THINGS: Migration = Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY);");

    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("things.db"));
        (open("things", &database, &[LOG], &[THINGS]).await.unwrap(), folder)
    }

    fn row(key: i64, payload: Vec<u8>) -> Published {
        let (kind, trace, causation) = ("things.v1.Made".to_owned(), String::new(), String::new());
        let (id, correlation) = (Uuid::new_v4(), Uuid::new_v4());
        Published { id, key: key.to_string(), kind, trace, correlation, causation, hops: 0, payload }
    }

    /// Writes a thing, and publishes it.
    async fn make(store: &Store, id: i64) -> Result<(), Error> {
        let mut tx = store.begin().await?;
        tx.append(row(id, vec![7]));
        sqlx::query("INSERT INTO things (id) VALUES ($1)").bind(id).execute(&mut *tx).await?;
        tx.commit().await
    }

    /// The keys in the order of their positions, which have no hole and end at the head.
    async fn keys(store: &Store) -> Vec<i64> {
        let rows = sqlx::query("SELECT position, key FROM events ORDER BY position");
        let rows = rows.fetch_all(store.reader()).await.unwrap();
        let head: i64 =
            sqlx::query("SELECT head FROM events_head").fetch_one(store.reader()).await.unwrap().get("head");
        let positions: Vec<i64> = rows.iter().map(|row| row.get("position")).collect();
        assert_eq!(positions, Vec::from_iter(1..=head));
        rows.iter().map(|row| row.get::<String, _>("key").parse().unwrap()).collect()
    }

    async fn things(store: &Store) -> Vec<i64> {
        let things = sqlx::query("SELECT id FROM things ORDER BY id").fetch_all(store.reader()).await.unwrap();
        things.iter().map(|row| row.get("id")).collect()
    }

    #[tokio::test]
    async fn log_has_what_was_committed_in_its_order_without_holes() {
        let (store, _folder) = store().await;
        let each = (0..200).map(|id| {
            let store = store.clone();
            tokio::spawn(async move {
                match id % 4 {
                    // The key exists, so the transaction rolls back.
                    1 => drop(make(&store, id - 1).await),
                    2 => {
                        let mut tx = store.begin().await.unwrap();
                        tx.append(row(id, vec![7]));
                        drop(tx);
                    }
                    _ => make(&store, id).await.unwrap(),
                }
            })
        });
        join_all(each.collect::<Vec<_>>()).await;
        let mut keys_in_order = keys(&store).await;
        // The writer is a fair lock: the tasks commit in the order in which they asked for it.
        assert!(keys_in_order.is_sorted());
        keys_in_order.dedup();
        assert_eq!((keys_in_order.len(), &keys_in_order), (100, &things(&store).await));
    }

    #[tokio::test]
    async fn log_keeps_the_order_of_one_transaction_with_large_payloads_among_small() {
        let (store, _folder) = store().await;
        let mut tx = store.begin().await.unwrap();
        let payload = |key: i64| vec![1; if key % 3 == 0 { LARGE + 1 } else { 10 }];
        (0..2500).for_each(|key| tx.append(row(key, payload(key))));
        tx.commit().await.unwrap();
        assert_eq!(keys(&store).await, Vec::from_iter(0..2500));
        let wrong = "SELECT count(*) FROM events WHERE length(payload) <> CASE CAST(key AS BIGINT) % 3 WHEN 0 THEN 4097 ELSE 10 END";
        assert_eq!(sqlx::query(wrong).fetch_one(store.reader()).await.unwrap().get::<i64, _>(0), 0);
    }

    #[tokio::test]
    async fn log_has_nothing_of_a_group_that_failed() {
        let (store, _folder) = store().await;
        make(&store, 1).await.unwrap();
        let holding = store.begin().await.unwrap();
        let before = tokio::spawn({
            let store = store.clone();
            async move { make(&store, 2).await }
        });
        let breaking = tokio::spawn({
            let store = store.clone();
            async move {
                let mut tx = store.begin().await?;
                // SQLite does this by itself when the disk is full.
                sqlx::query("ROLLBACK").execute(&mut *tx).await?;
                tx.commit().await
            }
        });
        tokio::task::yield_now().await;
        holding.commit().await.unwrap();
        assert!(before.await.unwrap().is_err() && breaking.await.unwrap().is_err());
        make(&store, 3).await.unwrap();
        assert_eq!((keys(&store).await, things(&store).await), (vec![1, 3], vec![1, 3]));
    }

    #[tokio::test]
    async fn log_and_data_are_both_there_or_neither_when_a_caller_is_dropped() {
        let (store, _folder) = store().await;
        for (id, polls) in (0..200).zip((0..20).cycle()) {
            let mut making = Box::pin(make(&store, id));
            for _ in 0..polls {
                if futures_util::poll!(&mut making).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        make(&store, 1000).await.unwrap();
        assert_eq!(keys(&store).await, things(&store).await);
    }
}
