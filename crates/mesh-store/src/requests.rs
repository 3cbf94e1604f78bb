//! Idempotency by `request_id`: a repeated write happens once and returns the first answer again
//! ([AIP-155](https://google.aip.dev/155)).
//!
//! A repeat that arrives while the first request is in progress waits for it: on Postgres at the primary key, on SQLite
//! for the writer and then for the end of the group.
//!
//! Guarantees:
//! - The claim of the id, the work and the answer are in one transaction (INV-7).
//! - An answer is kept for at least 24 hours.

use prost::Message;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::error::Error;
use super::migrate::Migration;
use super::store::{BATCH, Store};
use super::time::now;
use super::transaction::Transaction;

/// The table of request ids: the first migration of mesh.
pub const REQUESTS: Migration = Migration::new(
    1,
    "requests",
    "CREATE TABLE mesh_requests (
        request_id TEXT NOT NULL PRIMARY KEY,
        request_hash BYTEA NOT NULL,
        response BYTEA NOT NULL,
        create_time BIGINT NOT NULL
    );
    CREATE INDEX mesh_requests_by_age ON mesh_requests (create_time);",
);

/// The least time that an answer is kept: 24 hours, in microseconds.
const KEPT: i64 = 24 * 3600 * 1_000_000;

/// A request under its `request_id`.
#[derive(Debug)]
pub struct Request<'a> {
    id: &'a str,
    hash: Vec<u8>,
}

impl<'a> Request<'a> {
    /// The request `message` of `method` under `id`. The id and the hash of both identify a repeat.
    pub fn new(method: &str, id: &'a str, message: &impl Message) -> Self {
        Self { id, hash: hash(method, message) }
    }
}

/// The SHA-256 hash that identifies a request of a method.
pub fn hash(method: &str, message: &impl Message) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(method);
    hash.update([0]);
    hash.update(message.encode_to_vec());
    hash.finalize().to_vec()
}

/// The transaction of a request that may be a repeat.
pub enum Once<R> {
    /// The first request: do its work in this transaction, store the answer with [`answer`](Transaction::answer),
    /// commit.
    New(Transaction),
    /// A repeat, with the answer of the first request.
    Done(R),
}

impl Store {
    /// Claims a `request_id` and begins the transaction of its request, or finds the answer of the first request.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] if the id belongs to a different request; do not retry. [`Error::Unavailable`] as for
    /// [`begin`](Self::begin); the same request with the same id may be retried.
    pub async fn begin_once<R: Message + Default>(&self, request: &Request<'_>) -> Result<Once<R>, Error> {
        let mut tx = self.begin().await?;
        let Some(first) = tx.answered(request).await? else { return Ok(Once::New(tx)) };
        // On SQLite the first request may be in the same group. It is durable when the group is.
        tx.commit().await?;
        Ok(Once::Done(first))
    }
}

impl Transaction {
    /// The stored answer of a request; `None` if the request is new, and then claims its id.
    async fn answered<R: Message + Default>(&mut self, request: &Request<'_>) -> Result<Option<R>, Error> {
        let claim = "INSERT INTO mesh_requests (request_id, request_hash, response, create_time)
            VALUES ($1, $2, $3, $4) ON CONFLICT (request_id) DO NOTHING";
        let claim = sqlx::query(claim).bind(request.id).bind(&request.hash).bind(Vec::new()).bind(now());
        if claim.execute(&mut **self).await?.rows_affected() == 1 {
            return Ok(None);
        }

        let first = "SELECT request_hash, response FROM mesh_requests WHERE request_id = $1";
        let first = sqlx::query(first).bind(request.id).fetch_one(&mut **self).await?;
        if first.try_get::<Vec<u8>, _>(0)? != request.hash {
            return Err(Error::RequestIdReused);
        }
        let response: Vec<u8> = first.try_get(1)?;
        R::decode(response.as_slice()).map(Some).map_err(|error| Error::Defect(sqlx::Error::Decode(error.into())))
    }

    /// Stores the answer of a claimed request.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] as for any statement; retry the whole transaction.
    pub async fn answer(&mut self, request: &Request<'_>, response: &impl Message) -> Result<(), Error> {
        let keep = "UPDATE mesh_requests SET response = $1 WHERE request_id = $2";
        sqlx::query(keep).bind(response.encode_to_vec()).bind(request.id).execute(&mut **self).await?;
        Ok(())
    }
}

impl Store {
    /// Deletes answers that are older than 24 hours, in small transactions. Housekeeping calls it, not each request.
    ///
    /// # Errors
    ///
    /// As for any transaction. Deleted answers stay deleted; a later call deletes the rest.
    pub async fn delete_old_answers(&self) -> Result<(), Error> {
        let until = now() - KEPT;
        while self.delete_some_answers(until).await? {}
        Ok(())
    }

    /// Deletes one batch of the answers that were stored before `until`; true if there may be more.
    async fn delete_some_answers(&self, until: i64) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let delete = "DELETE FROM mesh_requests WHERE request_id IN
            (SELECT request_id FROM mesh_requests WHERE create_time < $1 ORDER BY create_time LIMIT $2)";
        let deleted = sqlx::query(delete).bind(until).bind(BATCH).execute(&mut *tx).await?.rows_affected();
        tx.commit().await?;
        Ok(deleted == BATCH.cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, open};

    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("things.db"));
        (open("things", &database, &[REQUESTS], &[]).await.unwrap(), folder)
    }

    /// Sends a request under one shared `request_id`; true if it was the first.
    async fn create(store: Store) -> bool {
        let request = Request::new("Create", "an id", &"message".to_owned());
        match store.begin_once::<String>(&request).await.unwrap() {
            Once::New(mut tx) => {
                tx.answer(&request, &"answer".to_owned()).await.unwrap();
                tx.commit().await.unwrap();
                true
            }
            Once::Done(first) => {
                assert_eq!(first, "answer");
                // Readers see durable rows only.
                let durable = sqlx::query("SELECT COUNT(*) FROM mesh_requests").fetch_one(store.reader()).await;
                assert_eq!(durable.unwrap().get::<i64, _>(0), 1);
                false
            }
        }
    }

    #[tokio::test]
    async fn repeat_is_answered_after_the_first_is_durable() {
        let (store, _folder) = store().await;
        // Both wait for the writer, so they are in one group.
        let holding = store.begin().await.unwrap();
        let (first, repeat) = (tokio::spawn(create(store.clone())), tokio::spawn(create(store.clone())));
        tokio::task::yield_now().await;
        holding.commit().await.unwrap();
        assert_eq!((first.await.unwrap(), repeat.await.unwrap()), (true, false));
    }

    #[tokio::test]
    async fn expired_answers_are_deleted_beyond_one_batch() {
        let (store, _folder) = store().await;
        create(store.clone()).await;
        let mut tx = store.begin().await.unwrap();
        for id in 0..2 * BATCH {
            let old =
                "INSERT INTO mesh_requests (request_id, request_hash, response, create_time) VALUES ($1, '', '', 1)";
            sqlx::query(old).bind(id.to_string()).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        store.delete_old_answers().await.unwrap();
        assert!(!create(store).await, "a younger answer stays");
    }
}
