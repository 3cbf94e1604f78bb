//! Whether a database takes reads and writes.
//!
//! A read that works proves nothing about writes: the disk may be full, the database read-only. So an error that shows
//! a lasting condition makes the next check write, and each later one, until such a write succeeds.
//!
//! Damage lasts until the process ends: a page that is whole proves nothing about others.
//!
//! See: docs/decisions/0025-a-failing-database-is-no-defect.md

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::condition::Condition;
use super::connections::Connections;
use super::dialect::Dialect;
use super::error::Error;
use super::store::Store;

/// The free space that a probe asks for beside an embedded database. One page may be free on a disk that is full for
/// everything else.
const RESERVE: usize = 1024 * 1024;

/// What does not work of a database that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Degraded {
    /// Writes to a shared database, under this condition.
    Writes(Condition),
    /// Statements that touch a damaged part of the database.
    Damaged,
}

/// A sentence for operators.
impl fmt::Display for Degraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writes(condition) => write!(f, "{condition}; writes fail, reads work"),
            Self::Damaged => f.write_str("the database is damaged; calls that touch the damage fail: restore a backup"),
        }
    }
}

impl Store {
    /// Checks that the database answers within `limit` and takes writes, if an error has shown that it may not. Returns
    /// what does not work, if the rest does.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] or [`Error::Corrupt`] if nothing works, or if writes to an embedded database fail.
    pub async fn check(&self, limit: Duration) -> Result<Option<Degraded>, Error> {
        let until = Instant::now() + limit;
        if let Some(file) = &self.file {
            file.is_in_place()?;
        }
        self.ping(limit).await?;
        let sightings = self.writes.sightings.count();
        if self.writes.proven.load(Ordering::Relaxed) != sightings {
            match timeout_at(until, self.probe_write()).await {
                Ok(Ok(())) => {
                    self.writes.proven.store(sightings, Ordering::Relaxed);
                    *self.failure() = None;
                    self.renew_sessions().await;
                }
                Ok(Err(error)) if proves_failure(&error) => {
                    *self.failure() = Some(error);
                    self.renew_sessions().await;
                }
                // Another writer holds it up: what was known before stays.
                Ok(Err(_)) | Err(_) => {}
            }
        }
        match &*self.failure() {
            Some(error) if self.dialect() == Dialect::Sqlite => Err(error.duplicate()),
            Some(error) => match error.condition() {
                Some(condition) => Ok(Some(Degraded::Writes(condition))),
                None => Ok(Some(Degraded::Damaged)),
            },
            None => Ok(self.writes.sightings.show_damage().then_some(Degraded::Damaged)),
        }
    }

    /// Closes the connections to Postgres without work. A session that began while the server was read-only stays so.
    async fn renew_sessions(&self) {
        if let Connections::Postgres(pool) = &self.connections {
            pool.renew().await;
        }
    }

    /// Writes, and leaves nothing behind.
    async fn probe_write(&self) -> Result<(), Error> {
        if let Some(file) = &self.file {
            let path = file.path().to_owned();
            let reserved = tokio::task::spawn_blocking(move || reserve(&path)).await;
            reserved.map_err(|_| sqlx::Error::WorkerCrashed)?.map_err(of_disk)?;
        }
        let mut tx = self.begin().await?;
        match self.dialect() {
            Dialect::Sqlite => {
                // A number that is set to its own value is written, unlike a row.
                let version = sqlx::query("SELECT user_version FROM pragma_user_version").fetch_one(&mut *tx).await?;
                let write = format!("PRAGMA user_version = {}", version.try_get::<i64, _>(0)?);
                sqlx::raw_sql(AssertSqlSafe(write)).execute(&mut *tx).await?;
                tx.commit().await
            }
            Dialect::Postgres => {
                // Text that does not compress, so that the table grows. The drop of the transaction rolls it back.
                let insert = "INSERT INTO mesh_requests (request_id, request_hash, response, create_time)
                    SELECT $1, $2, decode(string_agg(md5(CAST(n AS text)), ''), 'hex'), 0
                    FROM generate_series(1, 4096) AS n";
                let insert = sqlx::query(insert).bind(Uuid::new_v4().to_string()).bind(Vec::new());
                insert.execute(&mut *tx).await?;
                Ok(())
            }
        }
    }

    fn failure(&self) -> MutexGuard<'_, Option<Error>> {
        self.writes.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the failure of a probing write says that writes fail, and not that this one had to wait.
fn proves_failure(error: &Error) -> bool {
    match error {
        Error::Unavailable(unavailable) => {
            !matches!(unavailable.condition, Condition::NoFreeConnection | Condition::Busy)
        }
        Error::Corrupt(_) => true,
        Error::RequestIdReused | Error::LeaseLost | Error::CascadeTooDeep { .. } | Error::Defect(_) => false,
    }
}

/// Writes a file beside the database and removes it. Nothing is flushed: a full disk refuses the space at once.
fn reserve(path: &Path) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".probe");
    let written = std::fs::File::create(&beside).and_then(|mut file| file.write_all(&vec![1; RESERVE]));
    match std::fs::remove_file(&beside) {
        // An earlier probe that outlasted its limit has removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => written,
        removed => written.and(removed),
    }
}

fn of_disk(error: io::Error) -> Error {
    let condition = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Condition::Full,
        io::ErrorKind::ReadOnlyFilesystem => Condition::ReadOnly,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Condition::Moved,
        _ => Condition::Away,
    };
    Error::unavailable(condition, error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, Migration, REQUESTS, open};

    const LIMIT: Duration = Duration::from_secs(5);
    const SCHEMA: &[Migration] =
        &[Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY);")];

    async fn store() -> (Store, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("data/things.db"));
        (open("things", &database, &[REQUESTS], SCHEMA).await.unwrap(), folder)
    }

    async fn insert(store: &Store, id: i64) -> Result<(), Error> {
        let mut tx = store.begin().await?;
        sqlx::query("INSERT INTO things (id) VALUES ($1)").bind(id).execute(&mut *tx).await?;
        tx.commit().await
    }

    #[tokio::test]
    async fn write_to_a_moved_file_is_not_acknowledged() {
        let (store, folder) = store().await;
        insert(&store, 1).await.unwrap();
        assert_eq!(store.check(LIMIT).await.unwrap(), None);

        let (data, away) = (folder.path().join("data"), folder.path().join("away"));
        std::fs::rename(&data, &away).unwrap();
        assert_eq!(insert(&store, 2).await.unwrap_err().condition(), Some(Condition::Moved));
        assert_eq!(store.check(LIMIT).await.unwrap_err().condition(), Some(Condition::Moved));
        // Another file at the path is another database.
        std::fs::create_dir(&data).unwrap();
        std::fs::copy(away.join("things.db"), data.join("things.db")).unwrap();
        assert_eq!(insert(&store, 3).await.unwrap_err().condition(), Some(Condition::Moved));

        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&away, &data).unwrap();
        insert(&store, 4).await.unwrap();
        assert_eq!(store.check(LIMIT).await.unwrap(), None);

        std::fs::remove_file(data.join("things.db-wal")).unwrap();
        let lost = insert(&store, 5).await.unwrap_err();
        assert_eq!(lost.condition(), Some(Condition::Moved), "the log holds the commits");
    }

    /// Makes a write fail as on a full disk.
    async fn fill(store: &Store) {
        let mut tx = store.begin().await.unwrap();
        let insert = "PRAGMA max_page_count = 1; WITH RECURSIVE n (id) AS (SELECT 100 UNION SELECT id + 1 FROM n WHERE id < 9999)
            INSERT INTO things (id) SELECT id FROM n";
        let full = sqlx::raw_sql(insert).execute(&mut *tx).await.unwrap_err();
        assert_eq!(Error::from(full).condition(), Some(Condition::Full));
        drop(tx);
        let mut tx = store.begin().await.unwrap();
        sqlx::raw_sql("PRAGMA max_page_count = 1000000").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn check_writes_after_a_failure_and_until_a_write_succeeds() {
        let (store, folder) = store().await;
        let probe = folder.path().join("data/things.db.probe");
        // A folder in the place of the probe's file: the probe cannot write, and the database can.
        std::fs::create_dir(&probe).unwrap();
        assert_eq!(store.check(LIMIT).await.unwrap(), None, "without a failure nothing is written");

        let (other, _folder) = self::store().await;
        fill(&other).await;
        assert_eq!(store.check(LIMIT).await.unwrap(), None, "a failure of another database");

        fill(&store).await;
        assert!(store.check(LIMIT).await.is_err());
        insert(&store, 1).await.unwrap();
        assert!(store.check(LIMIT).await.is_err(), "a small write that works proves nothing");

        std::fs::remove_dir(&probe).unwrap();
        assert_eq!(store.check(LIMIT).await.unwrap(), None);
        assert!(!probe.exists());
    }

    #[tokio::test]
    async fn damage_that_a_read_meets_degrades_until_the_end() {
        let (store, folder) = store().await;
        let mut tx = store.begin().await.unwrap();
        let insert = "WITH RECURSIVE n (id) AS (SELECT 1 UNION SELECT id + 1 FROM n WHERE id < 9999)
            INSERT INTO things (id) SELECT id FROM n";
        sqlx::raw_sql(insert).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        store.close().await;
        drop(store);
        // The pages at the end are full of rows. The header of each page says what is on it.
        let path = folder.path().join("data/things.db");
        let mut bytes = std::fs::read(&path).unwrap();
        let half = bytes.len() / 2;
        bytes[half..].fill(0xff);
        std::fs::write(&path, bytes).unwrap();

        let store = open("things", &Database::Sqlite(path), &[REQUESTS], SCHEMA).await.unwrap();
        assert_eq!(store.check(LIMIT).await.unwrap(), None, "nothing has met it");
        let all = sqlx::query("SELECT id FROM things").fetch_all(store.reader()).await.map(drop);
        assert!(matches!(Error::from(all.unwrap_err()), Error::Corrupt(_)));
        for _ in 0..2 {
            assert_eq!(store.check(LIMIT).await.unwrap(), Some(Degraded::Damaged), "writes elsewhere work");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn database_behind_a_link_is_in_place() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("volume")).unwrap();
        let link = folder.path().join("things.db");
        std::os::unix::fs::symlink(folder.path().join("volume/things.db"), &link).unwrap();
        let store = open("things", &Database::Sqlite(link), &[REQUESTS], SCHEMA).await.unwrap();
        insert(&store, 1).await.unwrap();
        assert_eq!(store.check(LIMIT).await.unwrap(), None);
    }
}
