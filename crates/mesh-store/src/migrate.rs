//! Applies migrations, the steps of a schema, in order when a database is opened.

use sqlx::migrate::{MigrateError, MigrationType, Migrator};
use sqlx::{Connection as _, Executor as _, PgConnection, SqlSafeStr as _, SqlStr};

use super::connection::{Connection, Link};
use super::error::OpenError;

/// One step of a schema: `Migration::new(1, "titles", include_str!("…"))`. It is applied once. Do not edit it
/// afterwards: the process refuses to start on a database whose applied migration differs.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    version: i64,
    description: &'static str,
    sql: &'static str,
}

impl Migration {
    /// `version` is the place in the order, from 1; `description` is a name for logs and the database.
    pub const fn new(version: i64, description: &'static str, sql: &'static str) -> Self {
        Self { version, description, sql }
    }
}

/// The two schemas of a database: the tables of mesh, and those of the service.
#[derive(Clone, Copy)]
pub(super) struct Schema<'a> {
    pub(super) framework: &'a [Migration],
    pub(super) service: &'a [Migration],
}

/// Applies the missing migrations of both schemas.
pub(super) async fn migrate(
    service: &'static str,
    connection: &mut Connection,
    schema: Schema<'_>,
) -> Result<(), OpenError> {
    migrate_one(service, connection, "mesh_migrations", schema.framework).await?;
    migrate_one(service, connection, "service_migrations", schema.service).await
}

async fn migrate_one(
    service: &'static str,
    connection: &mut Connection,
    table: &'static str,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
    let resolved = migrations.iter().map(|migration| {
        let sql: SqlStr = migration.sql.into_sql_str();
        sqlx::migrate::Migration::new(
            migration.version,
            migration.description.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(resolved.collect());
    migrator.dangerous_set_table_name(table);
    let applied = match connection.link() {
        Link::Sqlite(connection) => migrator.run_direct(None, connection, false).await,
        Link::Postgres(link) => migrate_postgres(&mut link.connection, migrator).await,
    };
    applied.map_err(|cause| match cause {
        MigrateError::VersionMissing(found) => OpenError::Newer { service, known, found },
        MigrateError::VersionMismatch(version) => OpenError::Edited { service, version },
        cause => OpenError::Migrate { service, cause },
    })
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
