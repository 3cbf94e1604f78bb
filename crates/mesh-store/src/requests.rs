//! A write that is repeated with the same `request_id` has happened once, and gives its first answer again
//! ([AIP-155](https://google.aip.dev/155)).
//!
//! The id is claimed and the answer kept in the transaction that does the work: there is no moment at which one is
//! there without the other. A repeat that arrives while the first is still at work waits for it: at the primary key, or,
//! on SQLite, for its turn to write and then for the end of the group.

use prost::Message;
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::error::Error;
use super::migrate::Migration;
use super::store::{BATCH, Store};
use super::time::now;
use super::transaction::Transaction;

/// The tables of request ids: the first of the migrations of mesh.
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

/// How long an answer is kept at least: 24 hours, in microseconds.
const KEPT: i64 = 24 * 3600 * 1_000_000;

/// One request under its id.
#[derive(Debug)]
pub struct Request<'a> {
    id: &'a str,
    hash: Vec<u8>,
}

impl<'a> Request<'a> {
    /// The request of `method` under `id`; `message` is the whole of it.
    pub fn new(method: &str, id: &'a str, message: &impl Message) -> Self {
        Self { id, hash: hash(method, message) }
    }
}

/// What tells one request of a method from another.
pub fn hash(method: &str, message: &impl Message) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(method);
    hash.update([0]);
    hash.update(message.encode_to_vec());
    hash.finalize().to_vec()
}

/// The transaction of a request that may have come before.
pub enum Once<R> {
    /// It has not: do it in this transaction, [`answer`](Transaction::answer) it there, and commit.
    New(Transaction),
    /// It has, and this was its answer.
    Done(R),
}

impl Store {
    /// Begins the transaction that does a request, unless it is done.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] if the id came with another request. [`Error::Unavailable`] as for
    /// [`begin`](Self::begin).
    pub async fn begin_once<R: Message + Default>(&self, request: &Request<'_>) -> Result<Once<R>, Error> {
        let mut tx = self.begin().await?;
        let Some(first) = tx.answered(request).await? else { return Ok(Once::New(tx)) };
        // On SQLite the first may be in the group that this one is in, and is not durable before that.
        tx.commit().await?;
        Ok(Once::Done(first))
    }
}

impl Transaction {
    /// The answer that this request got before; `None` if it is new, and from here on claimed.
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

    /// Keeps the answer to a claimed request.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] as for any statement.
    pub async fn answer(&mut self, request: &Request<'_>, response: &impl Message) -> Result<(), Error> {
        let keep = "UPDATE mesh_requests SET response = $1 WHERE request_id = $2";
        sqlx::query(keep).bind(response.encode_to_vec()).bind(request.id).execute(&mut **self).await?;
        Ok(())
    }
}

impl Store {
    /// Forgets the answers that are older than what is promised. Called now and then, not by every request.
    pub async fn forget_answers(&self) -> Result<(), Error> {
        let until = now() - KEPT;
        while self.forget_some_answers(until).await? {}
        Ok(())
    }

    /// Forgets some of those that were given before `until`; true if there may be more.
    async fn forget_some_answers(&self, until: i64) -> Result<bool, Error> {
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

    /// Creates something with a `request_id` that others use, too; whether it was the first.
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
                // Readers see what is durable.
                let durable = sqlx::query("SELECT COUNT(*) FROM mesh_requests").fetch_one(store.reader()).await;
                assert_eq!(durable.unwrap().get::<i64, _>(0), 1);
                false
            }
        }
    }

    #[tokio::test]
    async fn a_repeat_is_answered_once_the_first_is_durable() {
        let (store, _folder) = store().await;
        // Until both wait for their turn, and so are one group.
        let holding = store.begin().await.unwrap();
        let (first, repeat) = (tokio::spawn(create(store.clone())), tokio::spawn(create(store.clone())));
        tokio::task::yield_now().await;
        holding.commit().await.unwrap();
        assert_eq!((first.await.unwrap(), repeat.await.unwrap()), (true, false));
    }

    #[tokio::test]
    async fn what_has_expired_is_forgotten_however_much_it_is() {
        let (store, _folder) = store().await;
        create(store.clone()).await;
        let mut tx = store.begin().await.unwrap();
        for id in 0..2 * BATCH {
            let old =
                "INSERT INTO mesh_requests (request_id, request_hash, response, create_time) VALUES ($1, '', '', 1)";
            sqlx::query(old).bind(id.to_string()).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
        store.forget_answers().await.unwrap();
        assert!(!create(store).await, "what is younger is known");
    }
}
