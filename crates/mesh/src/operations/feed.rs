//! The feed: one row for every change of every operation, in the order in which an owner's operations changed.
//!
//! A position is the owner's, a revision the operation's. Both are counters in rows that the transaction holds, and so
//! without holes: a sequence of the database would hand out numbers in another order than that of the commits. An
//! owner's counter is `feed_owner.next`, the position that was given out last; what is below `floor` has been
//! forgotten.

use std::collections::{BTreeMap, HashMap};

use mesh_proto::google::longrunning::Operation;
pub(super) use mesh_proto::mesh::operations::v1::Change;
use prost::Message as _;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::Owner;
use super::row::Row;
use super::stream::PAGE;
use crate::store::Column::{Bytes, Number, Text};
use crate::store::{Dialect, Error, hex};

/// A row of the feed.
pub(super) struct Event {
    pub(super) position: i64,
    pub(super) revision: i64,
    pub(super) change: Change,
    pub(super) kind: String,
    pub(super) operation: Operation,
    /// How long the operation is when it is encoded.
    pub(super) size: usize,
}

/// From where to where a feed reaches.
pub(super) struct Extent {
    /// The first position that is kept; one behind the last if none is.
    floor: i64,
    /// The last that was given out, 0 if none was.
    pub(super) last: i64,
}

impl Extent {
    /// Whether all that follows a position is kept, and the position is one of this feed.
    pub(super) fn leads_on_from(&self, position: i64) -> bool {
        (self.floor - 1..=self.last).contains(&position)
    }
}

/// A row of the feed that waits for its transaction's commit.
pub(crate) struct Entry {
    owner: String,
    operation: Uuid,
    revision: i64,
    change: Change,
    kind: String,
    told: i64,
    payload: Vec<u8>,
}

impl Entry {
    pub(super) fn new(service: &str, row: &Row, change: Change) -> Self {
        let payload = row.to_operation(service).encode_to_vec();
        let (owner, operation, revision, told) = (row.owner.0.clone(), row.id, row.revision, row.updated);
        Self { owner, operation, revision, change, kind: row.kind.clone(), told, payload }
    }
}

/// Appends what a transaction has to tell; the last that it does. The counter is the one row that all operations of an
/// owner share: taken any sooner, it would be held for longer, and two transactions could take each other's.
pub(crate) async fn append(tx: &mut AnyConnection, dialect: Dialect, entries: Vec<Entry>) -> sqlx::Result<()> {
    if entries.is_empty() {
        return Ok(());
    }
    let mut last = count(tx, dialect, &entries).await?;
    // Backwards, because what is known is the last position of each owner.
    let sent = entries.iter().rev().map(|entry| {
        let next = last.entry(entry.owner.as_str()).or_default();
        let position = *next;
        *next -= 1;
        json!({"owner": entry.owner, "position": position, "operation": entry.operation.to_string(), "revision": entry.revision,
            "type": entry.change as i64, "kind": entry.kind, "told": entry.told, "payload": hex(&entry.payload)})
    });
    let sent = sent.collect::<Value>().to_string();
    let table = dialect.rows(&[
        Text("owner"),
        Number("position"),
        Text("operation"),
        Number("revision"),
        Number("type"),
        Text("kind"),
        Number("told"),
        Bytes("payload"),
    ]);
    let append = format!(
        "INSERT INTO feed (owner, position, operation, revision, type, kind, told, payload)
        SELECT owner, position, operation, revision, type, kind, told, payload FROM {table} AS new"
    );
    sqlx::query(AssertSqlSafe(append)).bind(sent).execute(tx).await?;
    Ok(())
}

/// Gives out as many positions to each owner as it has entries; the last of each.
async fn count<'a>(
    tx: &mut AnyConnection,
    dialect: Dialect,
    entries: &'a [Entry],
) -> sqlx::Result<HashMap<&'a str, i64>> {
    let mut counts = BTreeMap::<_, i64>::new();
    for entry in entries {
        *counts.entry(entry.owner.as_str()).or_default() += 1;
    }
    let sent: Value = counts.iter().map(|(owner, count)| json!({"owner": owner, "count": count})).collect();
    // In the order of their names, so that two transactions do not wait for each other.
    let count = format!(
        "INSERT INTO feed_owner (owner, next, floor) SELECT owner, count, 1 FROM {} AS new WHERE true ORDER BY owner
        ON CONFLICT (owner) DO UPDATE SET next = feed_owner.next + excluded.next RETURNING owner, next",
        dialect.rows(&[Text("owner"), Number("count")])
    );
    let count = sqlx::query(AssertSqlSafe(count)).bind(sent.to_string());
    let given = count.try_map(|row: AnyRow| Ok((row.try_get::<String, _>(0)?, row.try_get(1)?))).fetch_all(tx).await?;
    let mut last = HashMap::new();
    for (owner, next) in given {
        if let Some((owner, _)) = counts.get_key_value(owner.as_str()) {
            last.insert(*owner, next);
        }
    }
    Ok(last)
}

/// What [`read`] reads.
const COLUMNS: &str = "position, revision, type, kind, payload";

/// What happened to an operation after a revision, in order: a page of it.
pub(super) async fn events(database: impl AnyExecutor<'_>, id: Uuid, after: i64) -> Result<Vec<Event>, Error> {
    let events =
        format!("SELECT {COLUMNS} FROM feed WHERE operation = $1 AND revision > $2 ORDER BY revision LIMIT {PAGE}");
    let events = sqlx::query(AssertSqlSafe(events)).bind(id.to_string()).bind(after);
    Ok(events.try_map(read).fetch_all(database).await?)
}

/// What an owner's feed tells after a position, in order: a page of it.
pub(super) async fn page(database: impl AnyExecutor<'_>, owner: &Owner, after: i64) -> Result<Vec<Event>, Error> {
    let page = format!("SELECT {COLUMNS} FROM feed WHERE owner = $1 AND position > $2 ORDER BY position LIMIT {PAGE}");
    let page = sqlx::query(AssertSqlSafe(page)).bind(&owner.0).bind(after);
    Ok(page.try_map(read).fetch_all(database).await?)
}

/// From where to where an owner's feed reaches.
pub(super) async fn extent(database: impl AnyExecutor<'_>, owner: &Owner) -> Result<Extent, Error> {
    let extent = sqlx::query("SELECT floor, next FROM feed_owner WHERE owner = $1").bind(&owner.0);
    let extent = extent.try_map(|row: AnyRow| Ok(Extent { floor: row.try_get(0)?, last: row.try_get(1)? }));
    Ok(extent.fetch_optional(database).await?.unwrap_or(Extent { floor: 1, last: 0 }))
}

/// The last positions of some owners' feeds, in one query.
pub(super) async fn last(database: impl AnyExecutor<'_>, owners: &[String]) -> Result<Vec<(String, i64)>, Error> {
    // The two databases have no parameter in common that holds a list.
    let each: Vec<_> = (1..=owners.len()).map(|n| format!("${n}")).collect();
    let last = format!("SELECT owner, next FROM feed_owner WHERE owner IN ({})", each.join(", "));
    let last = owners.iter().fold(sqlx::query(AssertSqlSafe(last)), |last, owner| last.bind(owner));
    let last = last.try_map(|row: AnyRow| Ok((row.try_get(0)?, row.try_get(1)?)));
    Ok(last.fetch_all(database).await?)
}

/// How much all feeds have told: it grows with every change of an operation.
pub(super) async fn told(database: impl AnyExecutor<'_>) -> Result<i64, Error> {
    let told = sqlx::query("SELECT CAST(COALESCE(SUM(next), 0) AS BIGINT) FROM feed_owner");
    Ok(told.fetch_one(database).await?.try_get(0)?)
}

fn read(row: AnyRow) -> sqlx::Result<Event> {
    let payload: Vec<u8> = row.try_get("payload")?;
    let change = i32::try_from(row.try_get::<i64, _>("type")?).unwrap_or_default();
    Ok(Event {
        position: row.try_get("position")?,
        revision: row.try_get("revision")?,
        // What is not known is no progress, and so never left out.
        change: Change::try_from(change).unwrap_or(Change::State),
        kind: row.try_get("kind")?,
        operation: Operation::decode(payload.as_slice()).map_err(|error| sqlx::Error::Decode(error.into()))?,
        size: payload.len(),
    })
}
