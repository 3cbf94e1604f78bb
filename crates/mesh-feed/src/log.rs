//! The rows of a feed: one for each change of a subject.
//!
//! A position belongs to the caller, a revision to the subject. Both are counters in rows that the transaction holds, and
//! so without holes: a sequence of the database gives out numbers in another order than that of the commits. A caller's
//! counter is `feed_owner.next`, the position that was given out last; rows below `floor` were deleted.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;

use mesh_rpc::call::Caller;
use mesh_store::rows::Column::{Bytes, Number, Text};
use mesh_store::rows::hex;
use mesh_store::{BeforeCommit, Dialect, Error, Transaction};
use prost::Message;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

/// The rows of one query, and so what a stream reads ahead of its client.
pub const PAGE: usize = 64;

/// What a feed tells: messages of one type.
pub trait Payload: Message + Default + Unpin + Sync + 'static {}

impl<T: Message + Default + Unpin + Sync + 'static> Payload for T {}

/// A row of a feed.
pub struct Event<T> {
    /// Its place in the feed of its caller, from 1.
    pub position: i64,
    /// Its place in the history of its subject, from 1.
    pub revision: i64,
    /// What kind of change it is, as its writer numbers them.
    pub change: i32,
    /// The kind of its subject.
    pub kind: String,
    /// The subject as it was then.
    pub value: T,
    /// The size of the encoded value, in bytes.
    pub size: usize,
}

/// From where to where a feed reaches.
pub struct Extent {
    /// The first position that is kept; one behind the last if none is.
    floor: i64,
    /// The last that was given out, 0 if none was.
    pub last: i64,
}

impl Extent {
    /// Whether all that follows a position is kept, and the position is one of this feed.
    pub fn leads_on_from(&self, position: i64) -> bool {
        (self.floor - 1..=self.last).contains(&position)
    }
}

/// A row that is to be appended.
pub struct Entry {
    /// Whose feed it belongs to.
    pub caller: Caller,
    /// What has changed.
    pub subject: Uuid,
    /// As in [`Event`].
    pub revision: i64,
    /// As in [`Event`].
    pub change: i32,
    /// As in [`Event`].
    pub kind: String,
    /// When it changed, in microseconds since 1970, by the clock of the database.
    pub time: i64,
    /// The subject as it is now, encoded.
    pub payload: Vec<u8>,
}

/// The rows that a transaction appends last.
#[derive(Default)]
struct Appended(Vec<Entry>);

impl BeforeCommit for Appended {
    fn write<'a>(
        self: Box<Self>,
        tx: &'a mut Transaction,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>> {
        let dialect = tx.dialect();
        Box::pin(async move { Ok(write(tx, dialect, self.0).await?) })
    }
}

/// Appends a row to the feed of its caller, as the last of what a transaction does.
pub fn append(tx: &mut Transaction, entry: Entry) {
    tx.before_commit::<Appended>().0.push(entry);
}

/// The counter is the one row that all subjects of a caller share: taken any sooner, it would be held for longer, and two
/// transactions could wait for each other's.
async fn write(tx: &mut AnyConnection, dialect: Dialect, entries: Vec<Entry>) -> sqlx::Result<()> {
    let mut last = count(tx, dialect, &entries).await?;
    // Backwards, because what is known is the last position of each owner.
    let sent = entries.iter().rev().map(|entry| {
        let next = last.entry(entry.caller.name()).or_default();
        let position = *next;
        *next -= 1;
        json!({"owner": entry.caller.name(), "position": position, "operation": entry.subject.to_string(),
            "revision": entry.revision, "type": entry.change, "kind": entry.kind, "told": entry.time,
            "payload": hex(&entry.payload)})
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

/// Gives out as many positions to each caller as it has entries; the last of each.
async fn count<'a>(
    tx: &mut AnyConnection,
    dialect: Dialect,
    entries: &'a [Entry],
) -> sqlx::Result<HashMap<&'a str, i64>> {
    let mut counts = BTreeMap::<_, i64>::new();
    for entry in entries {
        *counts.entry(entry.caller.name()).or_default() += 1;
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

/// What happened to a subject after a revision, in order: a page of it.
///
/// # Errors
///
/// As for any statement; [`Error::Defect`] if a value does not decode.
pub async fn events<T: Payload>(
    database: impl AnyExecutor<'_>,
    subject: Uuid,
    after: i64,
) -> Result<Vec<Event<T>>, Error> {
    let events =
        format!("SELECT {COLUMNS} FROM feed WHERE operation = $1 AND revision > $2 ORDER BY revision LIMIT {PAGE}");
    let events = sqlx::query(AssertSqlSafe(events)).bind(subject.to_string()).bind(after);
    Ok(events.try_map(read).fetch_all(database).await?)
}

/// What follows a position in a caller's feed, in order: a page of it.
///
/// # Errors
///
/// As for [`events`].
pub async fn page<T: Payload>(
    database: impl AnyExecutor<'_>,
    caller: &Caller,
    after: i64,
) -> Result<Vec<Event<T>>, Error> {
    let page = format!("SELECT {COLUMNS} FROM feed WHERE owner = $1 AND position > $2 ORDER BY position LIMIT {PAGE}");
    let page = sqlx::query(AssertSqlSafe(page)).bind(caller.name()).bind(after);
    Ok(page.try_map(read).fetch_all(database).await?)
}

/// From where to where a caller's feed reaches.
///
/// # Errors
///
/// As for any statement.
pub async fn extent(database: impl AnyExecutor<'_>, caller: &Caller) -> Result<Extent, Error> {
    let extent = sqlx::query("SELECT floor, next FROM feed_owner WHERE owner = $1").bind(caller.name());
    let extent = extent.try_map(|row: AnyRow| Ok(Extent { floor: row.try_get(0)?, last: row.try_get(1)? }));
    Ok(extent.fetch_optional(database).await?.unwrap_or(Extent { floor: 1, last: 0 }))
}

/// The last positions of some callers' feeds, in one query.
///
/// # Errors
///
/// As for any statement.
pub async fn last(database: impl AnyExecutor<'_>, callers: &[Caller]) -> Result<Vec<(Caller, i64)>, Error> {
    // The two databases have no parameter in common that holds a list.
    let each: Vec<_> = (1..=callers.len()).map(|n| format!("${n}")).collect();
    let last = format!("SELECT owner, next FROM feed_owner WHERE owner IN ({})", each.join(", "));
    let last = callers.iter().fold(sqlx::query(AssertSqlSafe(last)), |last, caller| last.bind(caller.name()));
    let last = last.try_map(|row: AnyRow| Ok((Caller::named(row.try_get(0)?), row.try_get(1)?)));
    Ok(last.fetch_all(database).await?)
}

/// A number that grows with each row of any feed.
///
/// # Errors
///
/// As for any statement.
pub async fn total(database: impl AnyExecutor<'_>) -> Result<i64, Error> {
    let total = sqlx::query("SELECT CAST(COALESCE(SUM(next), 0) AS BIGINT) FROM feed_owner");
    Ok(total.fetch_one(database).await?.try_get(0)?)
}

fn read<T: Payload>(row: AnyRow) -> sqlx::Result<Event<T>> {
    let payload: Vec<u8> = row.try_get("payload")?;
    Ok(Event {
        position: row.try_get("position")?,
        revision: row.try_get("revision")?,
        change: i32::try_from(row.try_get::<i64, _>("type")?).unwrap_or_default(),
        kind: row.try_get("kind")?,
        value: T::decode(payload.as_slice()).map_err(|error| sqlx::Error::Decode(error.into()))?,
        size: payload.len(),
    })
}
