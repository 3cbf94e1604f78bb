//! Applies migrations, the steps of a schema, in order when a database is opened.

use sqlx::migrate::{MigrateError, MigrationType, Migrator};
use sqlx::{AnyConnection, SqlSafeStr as _, SqlStr};

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
    connection: &mut AnyConnection,
    schema: Schema<'_>,
) -> Result<(), OpenError> {
    migrate_one(service, connection, "mesh_migrations", schema.framework).await?;
    migrate_one(service, connection, "service_migrations", schema.service).await
}

async fn migrate_one(
    service: &'static str,
    connection: &mut AnyConnection,
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
    migrator.run(connection).await.map_err(|cause| match cause {
        MigrateError::VersionMissing(found) => OpenError::Newer { service, known, found },
        MigrateError::VersionMismatch(version) => OpenError::Edited { service, version },
        cause => OpenError::Migrate { service, cause },
    })
}
