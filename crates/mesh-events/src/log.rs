//! Reads the log of a database.

use mesh_store::Error;
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};
use uuid::Uuid;

/// The most rows of one query, and so of what a stream reads ahead of its client.
pub(super) const PAGE: usize = mesh_feed::log::PAGE;

/// A row of the log, and the last position when it was read.
pub(super) struct Row {
    pub(super) position: i64,
    pub(super) head: i64,
    pub(super) id: String,
    pub(super) key: String,
    pub(super) kind: String,
    /// In microseconds since 1970, by the clock of the database.
    pub(super) told: i64,
    pub(super) trace: String,
    pub(super) correlation: String,
    pub(super) causation: String,
    pub(super) hops: i64,
    pub(super) payload: Vec<u8>,
}

/// The bounds of the log.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The last position; 0 before the first row.
    pub head: i64,
    /// The time of the row there, in microseconds since 1970; 0 before the first row.
    pub told: i64,
    /// The first position that is kept.
    pub floor: i64,
}

/// Up to `limit` rows behind a position, in order.
pub(super) async fn page(database: impl AnyExecutor<'_>, after: i64, limit: i64) -> Result<Vec<Row>, Error> {
    let page = "SELECT position, head, events.id, key, type, told, trace, correlation, causation, hops, payload
        FROM events, events_head WHERE events_head.id = 1 AND position > $1 ORDER BY position LIMIT $2";
    let page = sqlx::query(page).bind(after).bind(limit);
    Ok(page.try_map(read).fetch_all(database).await?)
}

/// Rows with a correlation, behind a position and up to another one, in order.
pub(super) async fn caused(
    database: impl AnyExecutor<'_>,
    correlation: Uuid,
    (after, until): (i64, i64),
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let caused = "SELECT position, head, events.id, key, type, told, trace, correlation, causation, hops, payload
        FROM events, events_head
        WHERE events_head.id = 1 AND position > $1 AND position <= $2 AND correlation = $3 ORDER BY position LIMIT $4";
    let caused = sqlx::query(caused).bind(after).bind(until).bind(correlation.to_string()).bind(limit);
    Ok(caused.try_map(read).fetch_all(database).await?)
}

pub(super) async fn end(database: impl AnyExecutor<'_>) -> Result<End, Error> {
    let end = "SELECT head, floor, COALESCE((SELECT told FROM events WHERE position = head), 0) AS told
        FROM events_head WHERE id = 1";
    let end = sqlx::query(end).try_map(|row: AnyRow| {
        Ok(End { head: row.try_get("head")?, told: row.try_get("told")?, floor: row.try_get("floor")? })
    });
    Ok(end.fetch_one(database).await?)
}

/// The time of the row at a position; `None` if there is none.
pub(super) async fn told_at(database: impl AnyExecutor<'_>, position: i64) -> Result<Option<i64>, Error> {
    let told = sqlx::query("SELECT told FROM events WHERE position = $1").bind(position);
    Ok(told.try_map(|row: AnyRow| row.try_get(0)).fetch_optional(database).await?)
}

fn read(row: AnyRow) -> sqlx::Result<Row> {
    Ok(Row {
        position: row.try_get("position")?,
        head: row.try_get("head")?,
        id: row.try_get("id")?,
        key: row.try_get("key")?,
        kind: row.try_get("type")?,
        told: row.try_get("told")?,
        trace: row.try_get("trace")?,
        correlation: row.try_get("correlation")?,
        causation: row.try_get("causation")?,
        hops: row.try_get("hops")?,
        payload: row.try_get("payload")?,
    })
}
