//! Parked events: those that could not be applied, and the later ones of their keys.

use std::collections::HashSet;

use mesh_proto::mesh::events::v1::{Event, ParkedEvent};
use mesh_store::{Error, Store, Transaction, now, timestamp};
use prost::Message as _;
use sqlx::Row as _;
use sqlx::any::AnyRow;

/// The most keys with parked events. More of them show a defect of the program, and no poison.
pub(super) const MOST_PARKED: usize = 100;

/// The keys that have parked events.
pub(super) async fn keys(store: &Store, source: &str) -> Result<HashSet<String>, Error> {
    let keys = sqlx::query("SELECT DISTINCT key FROM mesh_parked_events WHERE source = $1").bind(source);
    let keys = keys.try_map(|row: AnyRow| row.try_get(0)).fetch_all(store.reader()).await?;
    Ok(keys.into_iter().collect())
}

/// Parks an event: one that cannot be applied with its cause, one behind it without.
pub(super) async fn park(tx: &mut Transaction, source: &str, event: &Event, error: &str) -> Result<(), Error> {
    let park = "INSERT INTO mesh_parked_events (source, key, position, event, error, parked)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let park = sqlx::query(park).bind(source).bind(&event.key).bind(event.position);
    park.bind(event.encode_to_vec()).bind(error).bind(now()).execute(&mut **tx).await?;
    Ok(())
}

/// Forgets all parked events: the snapshot of a rebuild has their state.
pub(super) async fn clear(tx: &mut Transaction, source: &str) -> Result<(), Error> {
    sqlx::query("DELETE FROM mesh_parked_events WHERE source = $1").bind(source).execute(&mut **tx).await?;
    Ok(())
}

/// The first parked event of a key.
pub(super) async fn first(tx: &mut Transaction, source: &str, key: &str) -> Result<Option<Event>, Error> {
    let first = "SELECT event FROM mesh_parked_events WHERE source = $1 AND key = $2 ORDER BY position LIMIT 1";
    let first = sqlx::query(first).bind(source).bind(key).try_map(|row: AnyRow| decode(&row));
    Ok(first.fetch_optional(&mut **tx).await?)
}

/// Deletes a parked event that was applied.
pub(super) async fn delete(tx: &mut Transaction, source: &str, event: &Event) -> Result<(), Error> {
    let delete = sqlx::query("DELETE FROM mesh_parked_events WHERE source = $1 AND key = $2 AND position = $3");
    delete.bind(source).bind(&event.key).bind(event.position).execute(&mut **tx).await?;
    Ok(())
}

/// Deletes the parked events of a key, and returns their number.
pub(super) async fn skip(tx: &mut Transaction, source: &str, key: &str) -> Result<i32, Error> {
    let skip = sqlx::query("DELETE FROM mesh_parked_events WHERE source = $1 AND key = $2").bind(source).bind(key);
    Ok(i32::try_from(skip.execute(&mut **tx).await?.rows_affected()).unwrap_or(i32::MAX))
}

/// The number of parked events of a key.
pub(super) async fn count(store: &Store, source: &str, key: &str) -> Result<i32, Error> {
    let count = sqlx::query("SELECT count(*) FROM mesh_parked_events WHERE source = $1 AND key = $2");
    let count = count.bind(source).bind(key).try_map(|row: AnyRow| row.try_get::<i64, _>(0));
    Ok(i32::try_from(count.fetch_one(store.reader()).await?).unwrap_or(i32::MAX))
}

/// A page of parked events behind a key and a position, in their order; those of one key, unless it is empty.
pub(super) async fn list(
    store: &Store,
    source: &str,
    key: &str,
    after: (&str, i64),
    limit: i64,
) -> Result<Vec<ParkedEvent>, Error> {
    let list = "SELECT event, error, parked FROM mesh_parked_events
        WHERE source = $1 AND ($2 = '' OR key = $2) AND (key > $3 OR (key = $3 AND position > $4))
        ORDER BY key, position LIMIT $5";
    let list = sqlx::query(list).bind(source).bind(key).bind(after.0).bind(after.1).bind(limit);
    let list = list.try_map(|row: AnyRow| {
        let (event, park_time) = (Some(decode(&row)?), Some(timestamp(row.try_get("parked")?)));
        Ok(ParkedEvent { event, error: row.try_get("error")?, park_time })
    });
    Ok(list.fetch_all(store.reader()).await?)
}

fn decode(row: &AnyRow) -> sqlx::Result<Event> {
    let event: Vec<u8> = row.try_get("event")?;
    Event::decode(event.as_slice()).map_err(|error| sqlx::Error::Decode(error.into()))
}
