//! Deletes old events.
//!
//! It deletes in small transactions, from the start of the log only, and raises the floor of the log with them. The
//! newest of the old events stays: the time of the event behind which a reader resumes shows whether it has the same
//! history. So a reader that has missed no old event resumes, however old the last one is that it has.

use mesh_store::{BATCH, Error, Store};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::settings::Keep;

/// Deletes the events that are older than `keep`, except for the newest of them.
///
/// # Errors
///
/// As for any transaction. Deleted events stay deleted; a later call deletes the rest.
pub async fn delete_old(store: &Store, keep: Keep) -> Result<(), Error> {
    let keep = i64::try_from(keep.0.as_micros()).unwrap_or(i64::MAX);
    let until = store.time().await?.saturating_sub(keep);
    while delete_some(store, until).await? {}
    Ok(())
}

/// Deletes one batch of the events before `until`; true if there may be more.
async fn delete_some(store: &Store, until: i64) -> Result<bool, Error> {
    // Ordered by position, not by time: two events may have the same time.
    let oldest = sqlx::query("SELECT position, told FROM events ORDER BY position LIMIT $1")
        .bind(BATCH)
        .try_map(|row: AnyRow| Ok((row.try_get(0)?, row.try_get(1)?)));
    let oldest: Vec<(i64, i64)> = oldest.fetch_all(store.reader()).await?;
    let expired: Vec<_> = oldest.iter().take_while(|(_, told)| *told < until).collect();
    let [_, .., (newest, _)] = expired[..] else { return Ok(false) };

    let mut tx = store.begin().await?;
    sqlx::query("DELETE FROM events WHERE position < $1").bind(newest).execute(&mut *tx).await?;
    // The row of the head last: the sequencer waits for it.
    let raise = sqlx::query("UPDATE events_head SET floor = $1 WHERE id = 1 AND floor < $1");
    raise.bind(newest).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(expired.len() == BATCH.cast_unsigned() as usize)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use harness::Postgres;
    use mesh_store::{Database, LOG, open};
    use uuid::Uuid;

    use super::*;

    async fn one(store: &Store, ask: &'static str) -> i64 {
        sqlx::query(ask).fetch_one(store.reader()).await.unwrap().get(0)
    }

    async fn deletes_old_events_and_keeps_the_last(database: Database) {
        let store = open("things", &database, &[LOG], &[]).await.unwrap();
        let now = store.time().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let insert = "INSERT INTO events (position, id, key, type, told, trace, correlation, causation, hops, payload)
            VALUES ($1, '', '', '', $2, '', '', '', 0, $3)";
        for position in 1..=600_i64 {
            // Hours ago, and the last hundred now.
            let told = if position <= 500 { now - 7_200_000_000 } else { now };
            sqlx::query(insert).bind(position).bind(told).bind(Vec::new()).execute(&mut *tx).await.unwrap();
        }
        sqlx::query("UPDATE events_head SET head = 600").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();

        delete_old(&store, Keep(Duration::from_secs(3 * 3600))).await.unwrap();
        assert_eq!(one(&store, "SELECT min(position) FROM events").await, 1);
        delete_old(&store, Keep(Duration::from_secs(3600))).await.unwrap();
        assert_eq!(one(&store, "SELECT min(position) FROM events").await, 500);
        assert_eq!(one(&store, "SELECT floor FROM events_head").await, 500);
        delete_old(&store, Keep(Duration::ZERO)).await.unwrap();
        assert_eq!(one(&store, "SELECT min(position) FROM events").await, 600);
        assert_eq!(one(&store, "SELECT floor FROM events_head").await, 600);
        assert_eq!(one(&store, "SELECT head FROM events_head").await, 600);
    }

    #[tokio::test]
    async fn retention_deletes_old_events_and_keeps_the_last() {
        let folder = tempfile::tempdir().unwrap();
        deletes_old_events_and_keeps_the_last(Database::Sqlite(folder.path().join("things.db"))).await;
    }

    #[tokio::test]
    #[ignore = "needs Postgres: .ci/full"]
    async fn retention_deletes_old_events_on_postgres() {
        let create = || Some(Postgres::shared()?.database(&format!("kept_{}", Uuid::new_v4().simple())));
        let Some(url) = tokio::task::spawn_blocking(create).await.unwrap() else { return };
        deletes_old_events_and_keeps_the_last(Database::Postgres(url)).await;
    }
}
