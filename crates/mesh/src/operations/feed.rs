//! The feed: one row for every change of every operation, in the order in which an owner's operations changed.
//!
//! A position is the owner's, a revision the operation's. Both are counters in rows that the transaction holds, and so
//! without holes: a sequence of the database would hand out numbers in another order than that of the commits. An owner's
//! counter is `feed_owner.next`, the position that was given out last; what is below `floor` has been forgotten.

use contracts::google::longrunning::Operation;
use prost::Message as _;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyExecutor, Row as _};
use uuid::Uuid;

use super::row::Row;
use crate::store::Error;

/// What a row of the feed is about: whether it may be left out where something newer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    State = 1,
    Progress = 2,
}

/// A row of the feed.
pub(super) struct Event {
    pub(super) revision: i64,
    pub(super) change: Change,
    pub(super) operation: Operation,
}

/// A row of the feed that waits for its transaction's commit.
pub(crate) struct Entry {
    owner: String,
    operation: Uuid,
    revision: i64,
    change: Change,
    told: i64,
    payload: Vec<u8>,
}

impl Entry {
    pub(super) fn new(service: &str, row: &Row, change: Change) -> Self {
        let payload = row.to_operation(service).encode_to_vec();
        let (owner, operation, revision, told) = (row.owner.0.clone(), row.id, row.revision, row.updated);
        Self { owner, operation, revision, change, told, payload }
    }
}

/// Appends what a transaction has to tell; the last that it does. The counter is the one row that all operations of an
/// owner share: taken any sooner, it would be held for longer, and two transactions could take each other's.
pub(crate) async fn append(connection: &mut AnyConnection, mut entries: Vec<Entry>) -> sqlx::Result<()> {
    entries.sort_by(|one, other| one.owner.cmp(&other.owner));
    for entry in entries {
        let next = "INSERT INTO feed_owner (owner, next, floor) VALUES ($1, 1, 1)
            ON CONFLICT (owner) DO UPDATE SET next = feed_owner.next + 1 RETURNING next";
        let position: i64 = sqlx::query(next).bind(&entry.owner).fetch_one(&mut *connection).await?.try_get(0)?;
        let append = "INSERT INTO feed (owner, position, operation, revision, type, told, payload)
            VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let append = sqlx::query(append).bind(&entry.owner).bind(position).bind(entry.operation.to_string());
        let append = append.bind(entry.revision).bind(entry.change as i64).bind(entry.told).bind(entry.payload);
        append.execute(&mut *connection).await?;
    }
    Ok(())
}

/// What happened to an operation after a revision, in order.
pub(super) async fn events(
    database: impl AnyExecutor<'_>,
    id: Uuid,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, Error> {
    let events = "SELECT revision, type, payload FROM feed WHERE operation = $1 AND revision > $2
        ORDER BY revision LIMIT $3";
    let events = sqlx::query(events).bind(id.to_string()).bind(after).bind(limit).try_map(|row: AnyRow| {
        let payload: Vec<u8> = row.try_get(2)?;
        Ok(Event {
            revision: row.try_get(0)?,
            change: if row.try_get::<i64, _>(1)? == Change::Progress as i64 { Change::Progress } else { Change::State },
            operation: Operation::decode(payload.as_slice()).map_err(|error| sqlx::Error::Decode(error.into()))?,
        })
    });
    Ok(events.fetch_all(database).await?)
}
