//! Idempotency by `request_id`: a repeated write happens once and returns the first answer again
//! ([AIP-155](https://google.aip.dev/155)).
//!
//! A repeat that arrives while the first request is in progress waits for it: on Postgres at the primary key, on SQLite
//! for the writer and then for the end of the group.
//!
//! Guarantees:
//! - The claim of the id, the work and the answer are in one transaction (INV-7).
//! - An answer is kept for at least 24 hours.
//! - The spelling of the id does not matter: capitals are the same request.

use mesh_rpc::call::Context;
use prost::Message;
use sha2::{Digest as _, Sha256};
use sqlx::{AnyExecutor, Row as _};
use uuid::Uuid;

use super::condition::Condition;
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
pub struct Request {
    id: String,
    hash: Vec<u8>,
}

impl Request {
    /// The request `message` of `method` under `id`, as `Violations::uuid` returns it. The id and the hash of all three
    /// identify a repeat.
    pub fn new(method: &str, id: Uuid, message: &impl Message) -> Self {
        Self { id: id.to_string(), hash: request_hash(method, id, message) }
    }
}

/// The SHA-256 hash that identifies the request `message` of a method under `id`. The message holds the id as its
/// client spelled it, so the hash is that of the message with the id in small letters.
pub fn request_hash(method: &str, id: Uuid, message: &impl Message) -> Vec<u8> {
    let mut encoded = message.encode_to_vec();
    lower(&mut encoded, id.to_string().as_bytes());
    hash(method, &encoded)
}

/// The SHA-256 hash of an encoded message of a method.
pub fn hash(method: &str, encoded: &[u8]) -> Vec<u8> {
    let mut hash = Sha256::new();
    hash.update(method);
    hash.update([0]);
    hash.update(encoded);
    hash.finalize().to_vec()
}

/// Spells `id` in small letters where a field of an encoded message holds it: behind its length.
fn lower(encoded: &mut [u8], id: &[u8]) {
    let mut at = 0;
    while let Some(length) = encoded[at..].iter().position(|byte| usize::from(*byte) == id.len()) {
        at += length + 1;
        if let Some(field) = encoded.get_mut(at..at + id.len()).filter(|field| field.eq_ignore_ascii_case(id)) {
            field.make_ascii_lowercase();
        }
    }
}

impl Request {
    /// The stored answer, if there is one.
    async fn answer<R: Message + Default>(&self, database: impl AnyExecutor<'_>) -> Result<Option<R>, Error> {
        let first = "SELECT request_hash, response FROM mesh_requests WHERE request_id = $1";
        let Some(first) = sqlx::query(first).bind(&self.id).fetch_optional(database).await? else { return Ok(None) };
        if first.try_get::<Vec<u8>, _>(0)? != self.hash {
            return Err(Error::RequestIdReused);
        }
        let response: Vec<u8> = first.try_get(1)?;
        R::decode(response.as_slice()).map(Some).map_err(|error| Error::Defect(sqlx::Error::Decode(error.into())))
    }
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
    /// The answer of the first request, if `request` is a repeat of it. Claims nothing, so that no transaction is open:
    /// call it before the request asks a peer, and [`begin_once`](Self::begin_once) afterwards.
    ///
    /// # Errors
    ///
    /// As for [`begin_once`](Self::begin_once).
    pub async fn answered<R: Message + Default>(&self, request: &Request) -> Result<Option<R>, Error> {
        let answer = request.answer(self.reader()).await?;
        if answer.is_some() {
            // The first request may have published: a token for its caller covers that.
            Context::note_published(self.log.service);
        }
        Ok(answer)
    }

    /// Claims a `request_id` and begins the transaction of its request, or finds the answer of the first request.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`] if the id belongs to a different request; do not retry. [`Error::Unavailable`] as for
    /// [`begin`](Self::begin); the same request with the same id may be retried.
    #[track_caller]
    pub fn begin_once<R: Message + Default>(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<Once<R>, Error>> + Send {
        let begin = self.begin();
        async move {
            let mut tx = begin.await?;
            let Some(first) = tx.answered(request).await? else { return Ok(Once::New(tx)) };
            // On SQLite the first request may be in the same group. It is durable when the group is.
            let service = tx.service();
            tx.commit().await?;
            Context::note_published(service);
            Ok(Once::Done(first))
        }
    }
}

impl Transaction {
    /// The stored answer of a request; `None` if the request is new, and then claims its id.
    async fn answered<R: Message + Default>(&mut self, request: &Request) -> Result<Option<R>, Error> {
        let claim = "INSERT INTO mesh_requests (request_id, request_hash, response, create_time)
            VALUES ($1, $2, $3, $4) ON CONFLICT (request_id) DO NOTHING";
        let claim = sqlx::query(claim).bind(&request.id).bind(&request.hash).bind(Vec::new()).bind(now());
        if claim.execute(&mut **self).await?.rows_affected() == 1 {
            return Ok(None);
        }

        match request.answer(&mut **self).await? {
            Some(first) => Ok(Some(first)),
            // Housekeeping deleted it since the claim failed. A retry claims the id.
            None => Err(Error::unavailable(Condition::Busy, sqlx::Error::RowNotFound)),
        }
    }

    /// Stores the answer of a claimed request.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] as for any statement; retry the whole transaction.
    pub async fn answer(&mut self, request: &Request, response: &impl Message) -> Result<(), Error> {
        let keep = "UPDATE mesh_requests SET response = $1 WHERE request_id = $2";
        sqlx::query(keep).bind(response.encode_to_vec()).bind(&request.id).execute(&mut **self).await?;
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
        let request = Request::new("Create", Uuid::max(), &"message".to_owned());
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
    async fn request_id_in_capitals_is_the_same_request() {
        let (store, _folder) = store().await;
        let id = Uuid::from_u128(0xabcdef_u128 << 100);
        // As `message Nested { message Id { string id = 1; } Id id = 1; string name = 2; }` encodes it.
        let sent = |id: &str, name: &str| {
            let inner = [&[10, 36][..], id.as_bytes()].concat();
            prost::bytes::Bytes::from([&[10, 38][..], &inner, &[18, 4], name.as_bytes()].concat())
        };
        let capitals = id.to_string().to_uppercase();
        let first = Request::new("Create", id, &sent(&id.to_string(), "name"));
        let Once::New(mut tx) = store.begin_once::<String>(&first).await.unwrap() else { panic!() };
        tx.answer(&first, &"answer".to_owned()).await.unwrap();
        tx.commit().await.unwrap();

        let repeat = Request::new("Create", id, &sent(&capitals, "name"));
        assert_eq!(store.answered(&repeat).await.unwrap(), Some("answer".to_owned()));
        assert!(matches!(store.begin_once::<String>(&repeat).await, Ok(Once::Done(_))));
        for other in
            [Request::new("Create", id, &sent(&capitals, "NAME")), Request::new("Update", id, &sent(&capitals, "name"))]
        {
            assert!(matches!(store.answered::<String>(&other).await, Err(Error::RequestIdReused)));
        }
    }

    #[tokio::test]
    async fn answered_is_none_before_the_commit_and_claims_nothing() {
        let (store, _folder) = store().await;
        let request = Request::new("Create", Uuid::max(), &"message".to_owned());
        assert_eq!(store.answered::<String>(&request).await.unwrap(), None);
        let Once::New(mut tx) = store.begin_once::<String>(&request).await.unwrap() else { panic!() };
        tx.answer(&request, &"answer".to_owned()).await.unwrap();
        assert_eq!(store.answered::<String>(&request).await.unwrap(), None, "not durable yet");
        tx.commit().await.unwrap();
        assert_eq!(store.answered(&request).await.unwrap(), Some("answer".to_owned()));
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
