//! Asks whether the database answers, on a connection of its own: the connections of the service may all be in use
//! while the database is well.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AnyConnection, Connection as _, PgConnection};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::connection::Connection;
use super::error::Error;
use super::sightings::Sightings;

/// How a probe connects.
#[derive(Debug)]
pub(super) enum Target {
    Sqlite(AnyConnectOptions),
    Postgres(Box<PgConnectOptions>),
}

#[derive(Debug)]
pub(super) struct Probe {
    target: Target,
    /// `None` before the first answer, and after a failure.
    connection: Mutex<Option<Connection>>,
}

impl Probe {
    pub(super) fn new(target: Target) -> Self {
        Self { target, connection: Mutex::default() }
    }

    /// Asks the database.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if it does not answer within `limit`.
    pub(super) async fn ask(&self, limit: Duration) -> Result<(), Error> {
        match timeout(limit, self.answer()).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
        }
    }

    async fn answer(&self) -> sqlx::Result<()> {
        let mut place = self.connection.lock().await;
        // A probe that is dropped leaves no connection with half an answer.
        if let Some(mut kept) = place.take()
            && kept.control("SELECT 1").await.is_ok()
        {
            *place = Some(kept);
            return Ok(());
        }
        let mut new = self.connect().await?;
        new.control("SELECT 1").await?;
        *place = Some(new);
        Ok(())
    }

    async fn connect(&self) -> sqlx::Result<Connection> {
        Ok(match &self.target {
            Target::Sqlite(options) => {
                Connection::sqlite(AnyConnection::connect_with(options).await?, Sightings::default())
            }
            Target::Postgres(options) => {
                let connection = PgConnection::connect_with(options).await?;
                Connection::postgres(connection, Arc::default(), Sightings::default())
            }
        })
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.close().await;
        }
    }
}
