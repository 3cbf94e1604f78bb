//! Applies migrations, the steps of a schema, in order when a database is opened.
//!
//! A schema may be newer than the program: after a rollback, and in replicas that restart during a rolling upgrade. It
//! is accepted unless one of its migrations breaks programs as old as this one, which the migration declares and the
//! database remembers (`schema_floor`).
//!
//! Guarantees:
//! - A migration, its row in the list of applied migrations and its floor are in one transaction.
//! - A database that needs no migration is only read.
//!
//! See: docs/decisions/0023-a-schema-has-a-floor.md

use sqlx::any::AnyRow;
use sqlx::migrate::{MigrateError, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqlSafeStr as _};

use super::connection::{Connection, Link};
use super::dialect::Dialect;
use super::error::OpenError;

/// One step of a schema: `Migration::new(1, "titles", include_str!("…"))`. It is applied once. Do not edit it
/// afterwards: the process refuses to start on a database whose applied migration differs.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    version: i64,
    description: &'static str,
    sql: &'static str,
    floor: Option<i64>,
}

impl Migration {
    /// `version` is the place in the order, from 1; `description` is a name for logs and the database.
    ///
    /// The migration must leave the schema usable for the programs before it, which continue to run on it: it adds
    /// tables, indexes, and columns that are nullable or have a default. Any other migration declares
    /// [`breaks_before`](Self::breaks_before).
    pub const fn new(version: i64, description: &'static str, sql: &'static str) -> Self {
        Self { version, description, sql, floor: None }
    }

    /// Declares that programs which do not know the migration `version` of this list fail on the schema from here on.
    /// They refuse to start on it. Example: migration 2 stops the use of a column, and migration 3 drops it:
    /// `Migration::new(3, "drop_synopsis", …).breaks_before(2)`.
    ///
    /// # Panics
    ///
    /// If `version` is not between 1 and the version of this migration. In a constant that is an error of the compiler.
    #[must_use]
    pub const fn breaks_before(self, version: i64) -> Self {
        assert!(version >= 1 && version <= self.version, "breaks_before takes a version up to the migration's own");
        Self { floor: Some(version), ..self }
    }

    /// The place in the order.
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// The name.
    pub const fn description(&self) -> &'static str {
        self.description
    }

    /// The statements.
    pub const fn sql(&self) -> &'static str {
        self.sql
    }

    /// The version that programs must know behind it.
    pub const fn floor(&self) -> Option<i64> {
        self.floor
    }

    /// How many migrations several lists have together.
    pub const fn count(lists: &[&[Self]]) -> usize {
        let (mut list, mut count) = (0, 0);
        while list < lists.len() {
            (count, list) = (count + lists[list].len(), list + 1);
        }
        count
    }

    /// Joins the lists of several crates into one, whose length is their [`count`](Self::count).
    ///
    /// # Panics
    ///
    /// If two migrations have the same version, or there are not `N`. In a constant that is an error of the compiler.
    pub const fn join<const N: usize>(lists: &[&[Self]]) -> [Self; N] {
        let mut all = [Self::new(0, "", ""); N];
        let (mut list, mut joined) = (0, 0);
        while list < lists.len() {
            let mut next = 0;
            while next < lists[list].len() {
                let mut earlier = 0;
                while earlier < joined {
                    assert!(all[earlier].version != lists[list][next].version, "two migrations have the same version");
                    earlier += 1;
                }
                all[joined] = lists[list][next];
                (next, joined) = (next + 1, joined + 1);
            }
            list += 1;
        }
        assert!(joined == N, "the lists have another number of migrations");
        all
    }
}

/// The two schemas of a database: the tables of mesh, and those of the service.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a> {
    pub(super) framework: &'a [Migration],
    pub(super) service: &'a [Migration],
}

/// Where the migrations run.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) service: &'static str,
    pub(super) dialect: Dialect,
    /// How to delete the database, for messages: while nothing in it is needed, that is the easiest way out.
    pub(super) discard: &'a str,
}

/// Applies the missing migrations of both schemas. Returns whether one of them is newer than this program.
pub(super) async fn migrate(
    target: Target<'_>,
    connection: &mut Connection,
    schema: Schema<'_>,
) -> Result<bool, OpenError> {
    let framework = List::new(target, "mesh_migrations", schema.framework);
    let service = List::new(target, "service_migrations", schema.service);
    let newer = [framework.apply(connection).await?, service.apply(connection).await?];
    // Only now: a start that is refused prints nothing but its error.
    for (list, newer) in [framework, service].into_iter().zip(newer) {
        if let Some(found) = newer {
            let (service, list, known) = (target.service, list.table, list.known());
            tracing::info!(service, list, found, known, "the schema is newer than this program, which it supports");
        }
    }
    Ok(newer.iter().any(Option::is_some))
}

/// The migrations of one schema, and the table of those that were applied.
struct List<'a> {
    target: Target<'a>,
    table: &'static str,
    /// With their checksums.
    migrations: Vec<sqlx::migrate::Migration>,
}

/// A row in the list of applied migrations.
struct Applied {
    version: i64,
    checksum: Vec<u8>,
    finished: bool,
}

/// What a program finds in a database that it may use.
struct Found {
    complete: bool,
    /// The newest version, if this program does not know it.
    newer: Option<i64>,
}

impl<'a> List<'a> {
    fn new(target: Target<'a>, table: &'static str, migrations: &[Migration]) -> Self {
        Self { target, table, migrations: migrations.iter().map(|migration| resolve(table, migration)).collect() }
    }

    /// Returns the newest version in the database, if this program does not know it.
    async fn apply(&self, connection: &mut Connection) -> Result<Option<i64>, OpenError> {
        let found = self.inspect(connection).await?;
        if found.complete {
            return Ok(found.newer);
        }
        let mut migrator = Migrator::with_migrations(self.migrations.clone());
        migrator.dangerous_set_table_name(self.table);
        // A newer replica may migrate in the meantime. The inspection below then decides.
        migrator.set_ignore_missing(true);
        let applied = match connection.link() {
            Link::Sqlite(connection) => migrator.run_direct(None, connection, false).await,
            Link::Postgres(link) => migrate_postgres(&mut link.connection, migrator).await,
        };
        applied.map_err(|cause| self.failed(cause))?;
        Ok(self.inspect(connection).await?.newer)
    }

    /// Only reads, in one transaction: a pooler lends a session for no longer.
    async fn inspect(&self, connection: &mut Connection) -> Result<Found, OpenError> {
        connection.control("BEGIN").await.map_err(|cause| self.failed(cause.into()))?;
        let found = self.compare(connection).await?;
        connection.control("COMMIT").await.map_err(|cause| self.failed(cause.into()))?;
        Ok(found)
    }

    /// Compares the lists. Fails on a database that this program must not use.
    async fn compare(&self, connection: &mut Connection) -> Result<Found, OpenError> {
        let service = self.target.service;
        if !self.exists(self.table, connection).await? {
            return Ok(Found { complete: self.migrations.is_empty(), newer: None });
        }
        let applied = self.applied(connection).await?;
        if let Some(Applied { version, .. }) = applied.iter().find(|applied| !applied.finished) {
            return Err(OpenError::Interrupted { service, version: *version, table: self.table });
        }
        let mut complete = true;
        for migration in &self.migrations {
            match applied.iter().find(|applied| applied.version == migration.version) {
                Some(applied) if *applied.checksum == *migration.checksum => (),
                Some(_) => {
                    let discard = self.target.discard.to_owned();
                    return Err(OpenError::Edited { service, version: migration.version, discard });
                }
                None => complete = false,
            }
        }
        let known = self.known();
        let newest = applied.iter().map(|applied| applied.version).max();
        let newer = newest.filter(|newest| *newest > known);
        if let Some(found) = newer {
            let floor = self.floor(connection).await?;
            if floor > known {
                return Err(OpenError::Newer { service, known, found, floor });
            }
        }
        Ok(Found { complete, newer })
    }

    /// The newest version that this program knows.
    fn known(&self) -> i64 {
        self.migrations.iter().map(|migration| migration.version).max().unwrap_or_default()
    }

    async fn applied(&self, connection: &mut Connection) -> Result<Vec<Applied>, OpenError> {
        // A constant name.
        let list = AssertSqlSafe(format!(
            "SELECT version, checksum, CASE WHEN success THEN 1 ELSE 0 END AS finished FROM {}",
            self.table
        ));
        let applied = sqlx::query(list).try_map(|row: AnyRow| {
            let finished: i32 = row.try_get(2)?;
            Ok(Applied { version: row.try_get(0)?, checksum: row.try_get(1)?, finished: finished == 1 })
        });
        applied.fetch_all(connection).await.map_err(|cause| self.failed(cause.into()))
    }

    /// The version below which programs fail on this schema; 0 if there is none.
    async fn floor(&self, connection: &mut Connection) -> Result<i64, OpenError> {
        if !self.exists("schema_floor", connection).await? {
            return Ok(0);
        }
        let floor = sqlx::query_scalar("SELECT version FROM schema_floor WHERE list = $1").bind(self.table);
        let floor = floor.fetch_optional(connection).await.map_err(|cause| self.failed(cause.into()))?;
        Ok(floor.unwrap_or_default())
    }

    async fn exists(&self, table: &str, connection: &mut Connection) -> Result<bool, OpenError> {
        let tables = sqlx::query_scalar(self.target.dialect.tables_named()).bind(table).fetch_one(connection).await;
        tables.map(|tables: i64| tables > 0).map_err(|cause| self.failed(cause.into()))
    }

    fn failed(&self, cause: MigrateError) -> OpenError {
        OpenError::Migrate { service: self.target.service, cause }
    }
}

/// A migration for sqlx. Its checksum is that of the author's text, without the floor.
fn resolve(table: &str, migration: &Migration) -> sqlx::migrate::Migration {
    let Migration { version, description, sql, floor } = *migration;
    let kind = MigrationType::Simple;
    let mut resolved = sqlx::migrate::Migration::new(version, description.into(), kind, sql.into_sql_str(), false);
    if let Some(floor) = floor {
        // A constant name and a number. The new line ends a comment, with which the text may end.
        resolved.sql = AssertSqlSafe(format!(
            "{sql}\n;
            CREATE TABLE IF NOT EXISTS schema_floor (list TEXT NOT NULL PRIMARY KEY, version BIGINT NOT NULL);
            INSERT INTO schema_floor (list, version) VALUES ('{table}', {floor}) ON CONFLICT (list) DO UPDATE
                SET version = excluded.version WHERE schema_floor.version < excluded.version;"
        ))
        .into_sql_str();
    }
    resolved
}

/// Applies migrations in one transaction: all of them, or none. Its lock makes replicas that start together migrate one
/// after the other. sqlx's own lock belongs to a session, which a pooler lends to others between two statements.
async fn migrate_postgres(connection: &mut PgConnection, mut migrator: Migrator) -> Result<(), MigrateError> {
    // A pooler keeps the prepared statements of earlier clients, which have the same names.
    const BEGIN: &str = "DEALLOCATE ALL; SELECT pg_advisory_xact_lock(7596835243154170209)";
    migrator.set_locking(false);
    let mut tx = connection.begin().await?;
    tx.execute(BEGIN).await?;
    migrator.run_direct(None, &mut *tx, false).await?;
    tx.clear_cached_statements().await?;
    Ok(tx.commit().await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, Store, open};

    const FIRST: Migration = Migration::new(1, "things", "CREATE TABLE things (id BIGINT NOT NULL PRIMARY KEY)");
    const SECOND: Migration = Migration::new(2, "names", "ALTER TABLE things ADD COLUMN name TEXT; -- nullable");
    const THIRD: Migration = Migration::new(3, "no_names", "ALTER TABLE things DROP COLUMN name -- unused");

    async fn opened(
        folder: &tempfile::TempDir,
        framework: &[Migration],
        service: &[Migration],
    ) -> Result<Store, String> {
        let database = Database::Sqlite(folder.path().join("things.db"));
        open("things", &database, framework, service).await.map_err(|error| error.to_string())
    }

    async fn reopened(folder: &tempfile::TempDir, service: &[Migration]) -> Result<(), String> {
        let store = opened(folder, &[], service).await?;
        store.close().await;
        Ok(())
    }

    #[tokio::test]
    async fn newer_schema_is_accepted_down_to_its_floor() {
        let folder = tempfile::tempdir().unwrap();
        reopened(&folder, &[FIRST, SECOND]).await.unwrap();
        reopened(&folder, &[FIRST]).await.unwrap();

        reopened(&folder, &[FIRST, SECOND, THIRD.breaks_before(2)]).await.unwrap();
        reopened(&folder, &[FIRST, SECOND]).await.unwrap();
        let refused = reopened(&folder, &[FIRST]).await.unwrap_err();
        assert!(refused.contains("newer than this program") && refused.contains("from version 2"), "{refused}");
        // The rest of the list is still applied, and checked.
        reopened(&folder, &[FIRST, SECOND, THIRD]).await.unwrap();
    }

    #[tokio::test]
    async fn floor_never_sinks() {
        let folder = tempfile::tempdir().unwrap();
        let fourth = Migration::new(4, "more", "CREATE TABLE more (id BIGINT)").breaks_before(1);
        reopened(&folder, &[FIRST, SECOND, THIRD.breaks_before(3), fourth]).await.unwrap();
        assert!(reopened(&folder, &[FIRST, SECOND]).await.is_err());
        reopened(&folder, &[FIRST, SECOND, THIRD]).await.unwrap();
    }

    #[tokio::test]
    async fn floor_of_mesh_is_apart_from_that_of_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let framework = Migration::new(1, "requests", "CREATE TABLE requests (id BIGINT)").breaks_before(1);
        opened(&folder, &[framework], &[FIRST, SECOND]).await.unwrap().close().await;
        opened(&folder, &[framework], &[FIRST]).await.unwrap().close().await;
        let refused = opened(&folder, &[], &[FIRST]).await.unwrap_err();
        assert!(refused.contains("newer than this program"), "{refused}");
    }

    #[tokio::test]
    async fn failed_migration_leaves_no_floor() {
        let folder = tempfile::tempdir().unwrap();
        let broken = Migration::new(2, "broken", "CREATE TABLE more (id BIGINT); DROP TABLE nothing").breaks_before(2);
        reopened(&folder, &[FIRST]).await.unwrap();
        reopened(&folder, &[FIRST, broken]).await.unwrap_err();
        let store = opened(&folder, &[], &[FIRST]).await.unwrap();
        let tables = "SELECT COUNT(*) FROM sqlite_master WHERE name IN ('more', 'schema_floor')";
        let tables: i64 = sqlx::query_scalar(tables).fetch_one(store.reader()).await.unwrap();
        assert_eq!(tables, 0);
    }

    #[tokio::test]
    async fn edited_migration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        reopened(&folder, &[FIRST]).await.unwrap();
        let edited = Migration::new(1, "things", "CREATE TABLE things (id TEXT)");
        let refused = reopened(&folder, &[edited]).await.unwrap_err();
        assert!(
            refused.contains("migration 1") && refused.contains("delete") && refused.contains("things.db"),
            "{refused}"
        );
    }

    #[test]
    #[should_panic(expected = "the same version")]
    fn join_refuses_two_migrations_of_one_version() {
        let _ = Migration::join::<3>(&[&[FIRST, SECOND], &[SECOND]]);
    }

    #[test]
    #[should_panic(expected = "up to the migration's own")]
    fn floor_above_its_migration_is_refused() {
        let _ = FIRST.breaks_before(2);
    }
}
