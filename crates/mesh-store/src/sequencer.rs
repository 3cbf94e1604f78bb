//! The sequencer: numbers the published rows of a Postgres database after their commit.
//!
//! Each replica runs one. A lock lets one of them number at a time, and a commit wakes that of its process; the others
//! find what it left by a poll.
//!
//! Guarantees:
//! - A batch is numbered whole or not at all, and positions have no holes, however a sequencer ends.
//! - A sequencer that holds the lock and is silent loses it after half a second, with its session.
//! - Nothing is set for a session: the lock and its limits end with the transaction.
//!
//! See: docs/decisions/0034-events-are-numbered-at-the-commit.md

use std::time::Duration;

use sqlx::Row as _;
use tokio::time::{sleep, timeout};

use super::dialect::Dialect;
use super::error::Error;
use super::store::Store;
use super::transaction::Transaction;

/// The most rows that are numbered in one transaction.
const BATCH: i64 = 1000;
/// The interval of polls, and so the longest delay of rows whose process ended before it numbered them.
const POLL: Duration = Duration::from_millis(250);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// Takes the lock within a second, with half a second until Postgres ends a silent holder. The first settings are in
/// force when the lock is asked for.
const LOCK: &str = "SELECT set_config('idle_in_transaction_session_timeout', '500', true),
    set_config('lock_timeout', '1000', true), CAST(pg_advisory_xact_lock(7596835243154170210) AS TEXT)";

/// Numbers a batch. The head is raised from the value that the rows were numbered behind, or the statement changes
/// nothing and returns no row.
const NUMBER: &str = "WITH old AS (SELECT head FROM events_head WHERE id = 1),
    batch AS (
        DELETE FROM events_staged WHERE staged IN (SELECT staged FROM events_staged ORDER BY staged LIMIT $1)
        RETURNING staged, id, key, type, told, trace, correlation, causation, hops, payload
    ),
    numbered AS (
        INSERT INTO events (position, id, key, type, told, trace, correlation, causation, hops, payload)
        SELECT old.head + row_number() OVER (ORDER BY staged), id, key, type, told, trace, correlation, causation, hops,
            payload
        FROM batch, old
        RETURNING position
    )
    UPDATE events_head SET head = old.head + (SELECT count(*) FROM numbered) FROM old
    WHERE events_head.id = 1 AND events_head.head = old.head
    RETURNING (SELECT count(*) FROM numbered)";

impl Store {
    /// Numbers the rows that transactions publish. On Postgres it never ends by itself; each process that opens the
    /// database runs it. On SQLite it ends at once, since transactions number their rows themselves.
    pub async fn sequence(&self) {
        let mut failing = false;
        while self.dialect() == Dialect::Postgres {
            match self.number_waiting().await {
                Ok(()) if failing => tracing::info!(service = self.log.service, "published events are numbered again"),
                Ok(()) => {}
                Err(error) => {
                    if !failing {
                        let service = self.log.service;
                        tracing::warn!(service, %error, "published events are not numbered; retrying until they are");
                    }
                    failing = true;
                    sleep(PAUSE).await;
                    continue;
                }
            }
            failing = false;
            // A commit of this process, or the time to look for those of others.
            let _ = timeout(POLL, self.log.staged.notified()).await;
        }
    }

    /// Numbers the rows that wait, if there are any.
    async fn number_waiting(&self) -> Result<(), Error> {
        let waiting = sqlx::query("SELECT staged FROM events_staged LIMIT 1");
        if waiting.fetch_optional(self.reader()).await?.is_none() {
            return Ok(());
        }
        loop {
            let mut tx = self.begin().await?;
            lock(&mut tx).await?;
            let Some(numbered) = number(&mut tx).await? else { return Ok(()) };
            tx.commit().await?;
            if numbered > 0 {
                self.log.numbered.send_replace(());
            }
            if numbered < BATCH {
                return Ok(());
            }
        }
    }
}

async fn lock(tx: &mut Transaction) -> Result<(), Error> {
    sqlx::query(LOCK).execute(&mut **tx).await?;
    Ok(())
}

/// Numbers a batch, and returns its size; `None` if another sequencer has raised the head meanwhile, although this one
/// has the lock.
async fn number(tx: &mut Transaction) -> Result<Option<i64>, Error> {
    let numbered = sqlx::query(NUMBER).bind(BATCH).fetch_optional(&mut **tx).await?;
    Ok(numbered.map(|row| row.try_get(0)).transpose()?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Instant;

    use futures_util::future::join_all;
    use harness::Postgres;
    use tokio::task::JoinHandle;
    use uuid::Uuid;

    use super::*;
    use crate::{Database, LOG, Migration, Published, open};

    const THINGS: Migration = Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY);");

    /// A new database, opened by several replicas.
    async fn replicas<const N: usize>() -> Option<[Store; N]> {
        let create = || Some(Postgres::shared()?.database(&format!("log_{}", Uuid::new_v4().simple())));
        let url = tokio::task::spawn_blocking(create).await.unwrap()?;
        let mut stores = Vec::new();
        for _ in 0..N {
            stores.push(open("things", &Database::Postgres(url.clone()), &[LOG], &[THINGS]).await.unwrap());
        }
        stores.try_into().ok()
    }

    fn sequence(store: &Store) -> JoinHandle<()> {
        let store = store.clone();
        tokio::spawn(async move { store.sequence().await })
    }

    async fn make(store: &Store, id: i64) -> Result<(), Error> {
        let mut tx = store.begin().await?;
        let (kind, trace, causation) = ("things.v1.Made".to_owned(), String::new(), String::new());
        let (key, correlation, payload) = (id.to_string(), Uuid::new_v4(), vec![7; 5000 * (id as usize % 2) + 1]);
        tx.append(Published { id: Uuid::new_v4(), key, kind, trace, correlation, causation, hops: 0, payload });
        sqlx::query("INSERT INTO things (id) VALUES ($1)").bind(id).execute(&mut *tx).await?;
        tx.commit().await
    }

    async fn one(store: &Store, ask: &'static str) -> i64 {
        sqlx::query(ask).fetch_one(store.reader()).await.unwrap().get(0)
    }

    /// Waits until no row waits, and checks the log: dense to its head, and a row a thing.
    async fn check(store: &Store) {
        let begin = Instant::now();
        while one(store, "SELECT count(*) FROM events_staged").await > 0 {
            assert!(begin.elapsed() < Duration::from_secs(20), "rows are not numbered");
            sleep(Duration::from_millis(10)).await;
        }
        let things = one(store, "SELECT count(*) FROM things").await;
        let kept = one(store, "SELECT count(*) FROM events JOIN things ON key = CAST(things.id AS TEXT)").await;
        let (last, head) =
            (one(store, "SELECT max(position) FROM events").await, one(store, "SELECT head FROM events_head").await);
        let all = one(store, "SELECT count(DISTINCT key) FROM events").await;
        assert_eq!([kept, last, head, all], [things; 4]);
    }

    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Postgres: .ci/full"]
    async fn sequencers_lose_no_row_of_32_writers_while_their_sessions_are_killed() {
        let Some(stores) = replicas::<3>().await else { return };
        let sequencers: Vec<_> = stores.iter().map(sequence).collect();
        let killed = Arc::new(AtomicI64::new(0));
        let killing = tokio::spawn({
            let (store, killed) = (stores[0].clone(), Arc::clone(&killed));
            async move {
                let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks JOIN pg_database ON oid = database
                    WHERE locktype = 'advisory' AND granted AND datname = current_database()";
                loop {
                    killed.fetch_add(one(&store, kill).await, Ordering::Relaxed);
                    sleep(Duration::from_millis(fastrand::u64(1..20))).await;
                }
            }
        });
        let writers = (0..32).map(|writer| {
            let store = stores[writer % 3].clone();
            tokio::spawn(async move {
                for n in 0..60 {
                    let id = i64::try_from(writer).unwrap() * 1000 + n;
                    if n % 7 == 3 {
                        // The key exists, so the transaction rolls back.
                        let _ = make(&store, id - 1).await;
                    } else {
                        make(&store, id).await.unwrap();
                    }
                }
            })
        });
        for writer in join_all(writers.collect::<Vec<_>>()).await {
            writer.unwrap();
        }
        killing.abort();
        assert!(killed.load(Ordering::Relaxed) > 0, "no sequencer was killed");
        check(&stores[1]).await;
        sequencers.iter().for_each(JoinHandle::abort);
    }

    #[tokio::test]
    #[ignore = "needs Postgres: .ci/full"]
    async fn sequencer_that_ends_before_its_commit_leaves_its_batch_to_another() {
        let Some([one, other]) = replicas().await else { return };
        for id in 0..5 {
            make(&one, id).await.unwrap();
        }
        let mut tx = one.begin().await.unwrap();
        lock(&mut tx).await.unwrap();
        assert_eq!(number(&mut tx).await.unwrap(), Some(5));
        drop(tx);
        other.number_waiting().await.unwrap();
        check(&other).await;
    }

    #[tokio::test]
    #[ignore = "needs Postgres: .ci/full"]
    async fn sequencer_takes_over_from_a_silent_session_within_a_second() {
        let Some([silent, other]) = replicas().await else { return };
        let mut held = silent.begin().await.unwrap();
        lock(&mut held).await.unwrap();
        make(&other, 1).await.unwrap();
        let begin = Instant::now();
        other.number_waiting().await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        check(&other).await;
        // Its session is gone, and its batch with it.
        assert!(number(&mut held).await.is_err());
    }

    #[tokio::test]
    #[ignore = "needs Postgres: .ci/full"]
    async fn sequencer_changes_nothing_behind_a_head_that_another_has_raised() {
        let Some([one, other]) = replicas().await else { return };
        make(&one, 1).await.unwrap();
        let mut raising = other.begin().await.unwrap();
        sqlx::query("UPDATE events_head SET head = head + 1").execute(&mut *raising).await.unwrap();
        let numbering = tokio::spawn({
            let one = one.clone();
            async move {
                let mut tx = one.begin().await.unwrap();
                number(&mut tx).await.unwrap()
            }
        });
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        while super::tests::one(&other, waits).await == 0 {
            sleep(Duration::from_millis(5)).await;
        }
        raising.commit().await.unwrap();
        assert_eq!(numbering.await.unwrap(), None);
        assert_eq!(super::tests::one(&other, "SELECT count(*) FROM events_staged").await, 1);
    }
}
