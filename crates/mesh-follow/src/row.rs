//! The row that holds the place of a follower, and the lease on it.
//!
//! Guarantees:
//! - The place moves only from where its holder knows it, under the fence of that holder. The cursor says where: all
//!   rows of a snapshot have one position. The fence changes when another holder takes over, and when an operator
//!   changes the place.
//! - Each batch renews the lease.

use mesh_store::{Dialect, Error, Store, Transaction};
use sqlx::any::AnyRow;
use sqlx::{AnyExecutor, AssertSqlSafe, Row as _};

use super::place::{Place, UNKNOWN};
use super::seen::Sight;

/// The row of a follower.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) place: Place,
    /// The process that holds the lease, or that ended without a release.
    pub(super) holder: String,
    /// Whether the lease can be taken.
    free: bool,
    /// What the holder last wrote of its source.
    pub(super) sight: Sight,
}

impl Place {
    /// Writes that an attempt at the next event begins; false if the row is elsewhere.
    pub(super) async fn begin_attempt(&mut self, store: &Store, source: &str) -> Result<bool, Error> {
        let mut tx = store.begin().await?;
        let begin = format!(
            "UPDATE mesh_followers SET attempt = attempt + 1, lease_until = {}
            WHERE source = $1 AND cursor = $2 AND fence = $3",
            tx.dialect().lease_end()
        );
        let begin = sqlx::query(AssertSqlSafe(begin)).bind(source).bind(self.cursor.clone()).bind(self.fence);
        let begun = begin.execute(&mut *tx).await?.rows_affected() == 1;
        tx.commit().await?;
        self.attempt += i64::from(begun);
        Ok(begun)
    }

    /// Moves the row from this place to the next one, and renews the lease; false if the row is elsewhere.
    pub(super) async fn advance(&self, tx: &mut Transaction, source: &str, next: &Self) -> Result<bool, Error> {
        let advance = format!(
            "UPDATE mesh_followers SET cursor = $1, position = $2, generation = $3, whole = $4, attempt = $8, lease_until = {}
            WHERE source = $5 AND cursor = $6 AND fence = $7",
            tx.dialect().lease_end()
        );
        let advance = sqlx::query(AssertSqlSafe(advance)).bind(next.cursor.clone()).bind(next.position);
        let advance = advance.bind(next.generation).bind(next.whole).bind(source);
        let advanced = advance.bind(self.cursor.clone()).bind(self.fence).bind(next.attempt).execute(&mut **tx).await?;
        Ok(advanced.rows_affected() == 1)
    }
}

/// Reads the row of a source, which exists.
pub(super) async fn read(database: impl AnyExecutor<'_>, dialect: Dialect, source: &str) -> Result<Row, Error> {
    let read = format!(
        "SELECT cursor, position, generation, whole, attempt, fence, holder, head, heard, error,
            CASE WHEN {} THEN 0 ELSE 1 END AS free
        FROM mesh_followers WHERE source = $1",
        dialect.lease_is_held("lease_until")
    );
    let read = sqlx::query(AssertSqlSafe(read)).bind(source).try_map(|row: AnyRow| {
        let place = Place {
            cursor: row.try_get("cursor")?,
            position: row.try_get("position")?,
            generation: row.try_get("generation")?,
            whole: row.try_get("whole")?,
            attempt: row.try_get("attempt")?,
            fence: row.try_get("fence")?,
        };
        let (head, heard, error) = (row.try_get("head")?, row.try_get("heard")?, row.try_get("error")?);
        let sight = Sight::written(place.position, head, heard, error);
        Ok(Row { place, holder: row.try_get("holder")?, free: row.try_get::<i32, _>("free")? == 1, sight })
    });
    Ok(read.fetch_one(database).await?)
}

/// Creates the row of a source, if it is missing.
pub(super) async fn create(store: &Store, source: &str) -> Result<(), Error> {
    let exists = sqlx::query("SELECT 1 FROM mesh_followers WHERE source = $1").bind(source);
    if exists.fetch_optional(store.reader()).await?.is_some() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    let create = "INSERT INTO mesh_followers (source, cursor, position, generation, whole, attempt, fence, holder,
            lease_until, head, heard, error)
        VALUES ($1, $2, $3, 1, 0, 0, 0, '', 0, 0, 0, '') ON CONFLICT (source) DO NOTHING";
    sqlx::query(create).bind(source).bind(Vec::new()).bind(UNKNOWN).execute(&mut *tx).await?;
    tx.commit().await
}

/// Takes the lease for `holder`, if it is free. Returns the row as it was, but for the fence of a lease that was taken,
/// and whether it was.
pub(super) async fn take(store: &Store, source: &str, holder: &str) -> Result<(Row, bool), Error> {
    // A write takes the one writer of an embedded database, so a read comes first.
    let mut row = read(store.reader(), store.dialect(), source).await?;
    if !row.free {
        return Ok((row, false));
    }
    let mut tx = store.begin().await?;
    let take = format!(
        "UPDATE mesh_followers SET holder = $1, fence = fence + 1, lease_until = {} WHERE source = $2 AND fence = $3",
        store.dialect().lease_end()
    );
    let take = sqlx::query(AssertSqlSafe(take)).bind(holder).bind(source).bind(row.place.fence);
    let taken = take.execute(&mut *tx).await?.rows_affected() == 1;
    tx.commit().await?;
    row.place.fence += i64::from(taken);
    Ok((row, taken))
}

/// Keeps the lease, and writes what is known of the source, for the other processes; false if the fence is another one.
pub(super) async fn keep(store: &Store, source: &str, fence: i64, sight: &Sight) -> Result<bool, Error> {
    if store.dialect().is_alone() {
        return Ok(read(store.reader(), store.dialect(), source).await?.place.fence == fence);
    }
    let mut tx = store.begin().await?;
    let keep = format!(
        "UPDATE mesh_followers SET lease_until = {}, head = $1, heard = $2, error = $3 WHERE source = $4 AND fence = $5",
        store.dialect().lease_end()
    );
    let keep = sqlx::query(AssertSqlSafe(keep)).bind(sight.head).bind(sight.heard).bind(&sight.error);
    let kept = keep.bind(source).bind(fence).execute(&mut *tx).await?.rows_affected();
    tx.commit().await?;
    Ok(kept == 1)
}

/// Changes the fence, so that the holder reads its row again, and locks the row. Returns the generation.
pub(super) async fn change_fence(tx: &mut Transaction, source: &str) -> Result<i64, Error> {
    let change = "UPDATE mesh_followers SET fence = fence + 1 WHERE source = $1 RETURNING generation";
    Ok(sqlx::query(change).bind(source).fetch_one(&mut **tx).await?.try_get(0)?)
}

/// Moves the place before a snapshot, and returns the new generation.
pub(super) async fn rebuild(tx: &mut Transaction, source: &str) -> Result<i64, Error> {
    let rebuild = "UPDATE mesh_followers
        SET fence = fence + 1, generation = generation + 1, cursor = $1, position = $2, attempt = 0
        WHERE source = $3 RETURNING generation";
    let rebuild = sqlx::query(rebuild).bind(Vec::new()).bind(UNKNOWN).bind(source);
    Ok(rebuild.fetch_one(&mut **tx).await?.try_get(0)?)
}

/// Ends the lease in order, so that the next holder need not suspect the next event.
pub(super) async fn release(store: &Store, source: &str, holder: &str) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    let release =
        "UPDATE mesh_followers SET holder = '', lease_until = 0, attempt = 0 WHERE source = $1 AND holder = $2";
    sqlx::query(release).bind(source).bind(holder).execute(&mut *tx).await?;
    tx.commit().await
}

#[cfg(test)]
mod tests {
    use mesh_store::{Database, open};

    use super::*;
    use crate::FOLLOWERS;

    #[tokio::test]
    async fn place_moves_once_from_each_row_of_a_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("shelf.db"));
        let store = open("shelf", &database, &[FOLLOWERS], &[]).await.unwrap();
        create(&store, "things").await.unwrap();
        let mut place = take(&store, "things", "me").await.unwrap().0.place;
        let advance = async |from: &Place, to: &Place| {
            let mut tx = store.begin().await.unwrap();
            let advanced = from.advance(&mut tx, "things", to).await.unwrap();
            tx.commit().await.unwrap();
            advanced
        };
        for cursor in [b"a", b"b"] {
            let next = Place { cursor: cursor.to_vec(), position: 7, ..place.clone() };
            assert!(advance(&place, &next).await);
            assert!(!advance(&place, &next).await, "the answer of the commit was lost");
            place = next;
        }
        assert!(place.clone().begin_attempt(&store, "things").await.unwrap());
        place.cursor = b"a".to_vec();
        assert!(!place.begin_attempt(&store, "things").await.unwrap());
    }
}
