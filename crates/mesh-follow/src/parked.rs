//! Parked events: those that could not be applied, and the later ones of their keys.

use std::collections::HashSet;

use mesh_proto::mesh::events::v1::Event;
use mesh_store::{Error, Store, Transaction, now};
use prost::Message as _;
use sqlx::Row as _;
use sqlx::any::AnyRow;

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
