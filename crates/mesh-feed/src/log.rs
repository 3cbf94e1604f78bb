//! The rows of a feed: one for each change of a subject.
//!
//! A position counts the rows of a caller, a revision those of a subject. Both are counters in locked rows and have no
//! holes. A sequence of the database would number rows in another order than that of their commits.
//!
//! A caller's counter is `feed_owner.next`, its last position. Rows below `feed_owner.floor` were deleted.
//!
//! See: docs/decisions/0016-counters-not-sequences.md

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;

use mesh_rpc::call::Caller;
use mesh_store::rows::Column::{Bytes, Number, Text};
use mesh_store::rows::hex;
use mesh_store::{BeforeCommit, Connection, Dialect, Error, Transaction};
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};
use uuid::Uuid;

/// The most rows of one query, and so of what a stream reads ahead of its client.
pub const PAGE: usize = 64;

/// A row of a feed.
pub struct Row {
    /// The position in the feed of the caller, from 1.
    pub position: i64,
    /// The revision of the subject, from 1.
    pub revision: i64,
    /// The type of the change, a number that the writer defines.
    pub change: i32,
    /// The kind of the subject.
    pub kind: String,
    /// The subject after the change, encoded.
    pub payload: Vec<u8>,
}

/// The range of the positions of a feed.
pub struct Extent {
    /// The first position that is kept; `last + 1` if no row is.
    floor: i64,
    /// The last position; 0 if the feed has never had a row.
    pub last: i64,
}

impl Extent {
    /// Whether a stream can resume behind a position: the position is not ahead of this feed, and each later row is
    /// kept.
    pub fn can_resume_from(&self, position: i64) -> bool {
        (self.floor - 1..=self.last).contains(&position)
    }
}

/// A row to append.
pub struct Entry {
    /// The caller to whose feed the row belongs.
    pub caller: Caller,
    /// The subject that has changed.
    pub subject: Uuid,
    /// As in [`Row`].
    pub revision: i64,
    /// As in [`Row`].
    pub change: i32,
    /// As in [`Row`].
    pub kind: String,
    /// The time of the change, in microseconds since 1970, by the clock of the database.
    pub time: i64,
    /// As in [`Row`].
    pub payload: Vec<u8>,
}

/// The rows that a transaction appends just before its commit.
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

/// Appends a row to the feed of its caller. The transaction writes it just before its commit.
pub fn append(tx: &mut Transaction, entry: Entry) {
    tx.before_commit::<Appended>().0.push(entry);
}

/// Writes the rows. This comes last in a transaction: all subjects of a caller share its counter, so an earlier lock
/// would be held for longer and could deadlock.
async fn write(tx: &mut Connection, dialect: Dialect, entries: Vec<Entry>) -> sqlx::Result<()> {
    let mut last = count(tx, dialect, &entries).await?;
    // Backwards, because `last` holds the last position of each owner.
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

/// Raises the counter of each caller by the number of its entries, and returns the last position of each.
async fn count<'a>(tx: &mut Connection, dialect: Dialect, entries: &'a [Entry]) -> sqlx::Result<HashMap<&'a str, i64>> {
    let mut counts = BTreeMap::<_, i64>::new();
    for entry in entries {
        *counts.entry(entry.caller.name()).or_default() += 1;
    }
    let sent: Value = counts.iter().map(|(owner, count)| json!({"owner": owner, "count": count})).collect();
    // Ordered by name, so that two transactions cannot deadlock.
    let count = format!(
        "INSERT INTO feed_owner (owner, next, floor) SELECT owner, count, 1 FROM {} AS new WHERE true ORDER BY owner
        ON CONFLICT (owner) DO UPDATE SET next = feed_owner.next + excluded.next RETURNING owner, next",
        dialect.rows(&[Text("owner"), Number("count")])
    );
    let count = sqlx::query(AssertSqlSafe(count)).bind(sent.to_string());
    let counted =
        count.try_map(|row: AnyRow| Ok((row.try_get::<String, _>(0)?, row.try_get(1)?))).fetch_all(tx).await?;
    let mut last = HashMap::new();
    for (owner, next) in counted {
        if let Some((owner, _)) = counts.get_key_value(owner.as_str()) {
            last.insert(*owner, next);
        }
    }
    Ok(last)
}

/// The columns that [`read`] decodes.
const COLUMNS: &str = "position, revision, type, kind, payload";

/// A page of the rows of a subject behind the revision `after`, in order.
///
/// # Errors
///
/// As for any statement, and the read may be retried.
pub async fn history(database: impl AnyExecutor<'_>, subject: Uuid, after: i64) -> Result<Vec<Row>, Error> {
    let rows =
        format!("SELECT {COLUMNS} FROM feed WHERE operation = $1 AND revision > $2 ORDER BY revision LIMIT {PAGE}");
    let rows = sqlx::query(AssertSqlSafe(rows)).bind(subject.to_string()).bind(after);
    Ok(rows.try_map(read).fetch_all(database).await?)
}

/// A page of the rows in a caller's feed behind the position `after`, in order.
///
/// # Errors
///
/// As for [`history`].
pub async fn page(database: impl AnyExecutor<'_>, caller: &Caller, after: i64) -> Result<Vec<Row>, Error> {
    let page = format!("SELECT {COLUMNS} FROM feed WHERE owner = $1 AND position > $2 ORDER BY position LIMIT {PAGE}");
    let page = sqlx::query(AssertSqlSafe(page)).bind(caller.name()).bind(after);
    Ok(page.try_map(read).fetch_all(database).await?)
}

/// The range of a caller's feed.
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
    // SQLite and Postgres share no parameter type that holds a list.
    let each: Vec<_> = (1..=callers.len()).map(|n| format!("${n}")).collect();
    let last = format!("SELECT owner, next FROM feed_owner WHERE owner IN ({})", each.join(", "));
    let last = callers.iter().fold(sqlx::query(AssertSqlSafe(last)), |last, caller| last.bind(caller.name()));
    let last = last.try_map(|row: AnyRow| Ok((Caller::named(row.try_get(0)?), row.try_get(1)?)));
    Ok(last.fetch_all(database).await?)
}

fn read(row: AnyRow) -> sqlx::Result<Row> {
    Ok(Row {
        position: row.try_get("position")?,
        revision: row.try_get("revision")?,
        change: i32::try_from(row.try_get::<i64, _>("type")?).unwrap_or_default(),
        kind: row.try_get("kind")?,
        payload: row.try_get("payload")?,
    })
}
