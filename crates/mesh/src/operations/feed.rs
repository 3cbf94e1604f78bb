//! The feed: one row for every change of every operation, in the order in which an owner's operations changed.
//!
//! A position is the owner's, a revision the operation's. Both are counters in rows that the transaction holds, and so
//! without holes: a sequence of the database would hand out numbers in another order than that of the commits.

use contracts::google::longrunning::Operation;
use prost::Message as _;
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, Row as _};
use uuid::Uuid;

use super::row::Row;
use crate::store::{Error, Transaction};

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

/// Appends what has become of an operation. The owner's counter comes last in a transaction: it is the one row that all
/// operations of an owner share.
pub(super) async fn append(tx: &mut Transaction, service: &str, row: &Row, change: Change) -> Result<(), Error> {
    let next = "INSERT INTO feed_owner (owner, next, floor) VALUES ($1, 1, 1)
        ON CONFLICT (owner) DO UPDATE SET next = feed_owner.next + 1 RETURNING next";
    let position: i64 = sqlx::query(next).bind(&row.owner.0).fetch_one(&mut **tx).await?.try_get(0)?;
    let append =
        "INSERT INTO feed (owner, position, operation, revision, type, payload) VALUES ($1, $2, $3, $4, $5, $6)";
    let append = sqlx::query(append).bind(&row.owner.0).bind(position).bind(row.id.to_string()).bind(row.revision);
    let append = append.bind(change as i64).bind(row.to_operation(service).encode_to_vec());
    append.execute(&mut **tx).await?;
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
