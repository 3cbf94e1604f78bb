//! Reads outside a transaction of the caller.
//!
//! On Postgres each read is a short transaction that cannot write: its settings end with it, and a pooler lends one
//! session to it. The rows are complete before the caller sees the first, and the connection is free soon after.

use futures_util::future::{self, BoxFuture, FutureExt as _};
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::{Any, Either, Execute, Executor, SqlStr};

use super::connections::Connections;
use super::holders::Place;
use super::pool::{Access, Pool};

/// The connections for reads. It executes statements, as `sqlx::query(…).fetch_one(store.reader())`. A statement that
/// writes fails.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    pub(super) connections: &'a Connections,
    pub(super) place: Place,
}

type Step = Either<AnyQueryResult, AnyRow>;

impl<'a> Executor<'a> for Reader<'a> {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, sqlx::Result<Step>>
    where
        'a: 'e,
        E: 'q + Execute<'q, Any>,
    {
        match self.connections {
            Connections::Sqlite { readers, sightings, .. } => {
                readers.fetch_many(query).map(|step| sightings.of(step.map_err(write_is_a_defect))).boxed()
            }
            Connections::Postgres(pool) => {
                let steps = read(pool, self.place, query);
                stream::once(steps).map_ok(|steps| stream::iter(steps.into_iter().map(Ok))).try_flatten().boxed()
            }
        }
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, sqlx::Result<Option<AnyRow>>>
    where
        'a: 'e,
        E: 'q + Execute<'q, Any>,
    {
        match self.connections {
            Connections::Sqlite { readers, sightings, .. } => {
                readers.fetch_optional(query).map(|row| sightings.of(row.map_err(write_is_a_defect))).boxed()
            }
            Connections::Postgres(pool) => async move {
                let steps = read(pool, self.place, query).await?;
                Ok(steps.into_iter().find_map(Either::right))
            }
            .boxed(),
        }
    }

    fn prepare_with<'e>(self, sql: SqlStr, parameters: &'e [AnyTypeInfo]) -> BoxFuture<'e, sqlx::Result<AnyStatement>>
    where
        'a: 'e,
    {
        match self.connections {
            Connections::Sqlite { readers, .. } => readers.prepare_with(sql, parameters),
            Connections::Postgres(_) => {
                let unsupported = "a statement cannot be prepared by itself: execute it with sqlx::query".into();
                future::ready(Err(sqlx::Error::AnyDriverError(unsupported))).boxed()
            }
        }
    }
}

/// Everything that a statement returns. The drop of the transaction ends it in the background.
async fn read<'q>(pool: &Pool, place: Place, query: impl Execute<'q, Any> + 'q) -> sqlx::Result<Vec<Step>> {
    let mut lease = pool.begin(Access::Read, place).await?;
    lease.connection_mut().fetch_many(query).try_collect().await.map_err(write_is_a_defect)
}

/// A reader refuses writes, as a database that is read-only does, where a write through a reader is a defect, too.
fn write_is_a_defect(error: sqlx::Error) -> sqlx::Error {
    const READ_ONLY: [&str; 2] = ["25006", "8"];
    match &error {
        sqlx::Error::Database(database) if database.code().is_some_and(|code| READ_ONLY.contains(&&*code)) => {
            let defect = "a statement that writes ran on the connections for reads: begin a transaction";
            sqlx::Error::AnyDriverError(defect.into())
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Database, Error, Migration, open};

    const SCHEMA: &[Migration] =
        &[Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY);")];

    #[tokio::test]
    async fn write_through_a_reader_is_a_defect() {
        let folder = tempfile::tempdir().unwrap();
        let store = open("things", &Database::Sqlite(folder.path().join("things.db")), &[], SCHEMA).await.unwrap();
        let write = sqlx::query("INSERT INTO things (id) VALUES (1)").execute(store.reader()).await;
        assert!(matches!(Error::from(write.unwrap_err()), Error::Defect(_)));
    }
}
