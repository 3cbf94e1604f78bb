//! The clock of operations, which all replicas share.

use std::time::Duration;

use mesh_store::{self as store, Dialect, Error};
use sqlx::{AnyExecutor, Row as _};

/// The time in microseconds since 1970: by the clock of the database on Postgres, by that of this process on SQLite.
pub(super) async fn now(database: impl AnyExecutor<'_>, dialect: Dialect) -> Result<i64, Error> {
    match dialect.shared_clock() {
        Some(ask) => Ok(sqlx::query(ask).fetch_one(database).await?.try_get(0)?),
        None => Ok(store::now()),
    }
}

/// A duration in microseconds, as columns hold it.
pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2)
}
