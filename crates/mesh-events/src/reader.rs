//! Reads the log of a service from any position, for a program that passes all of it on.
//!
//! Guarantees:
//! - Events come in the order of their positions, without a hole. A page whose first event is not the next one says
//!   that the events between were deleted.

use mesh_feed::epoch::epoch;
use mesh_feed::notifier::{Key, Listener};
use mesh_proto::mesh::events::v1::Event;
use mesh_store::Error;
use uuid::Uuid;

use super::log;
use super::source::{Published, message};

pub use super::log::End;

/// A reader of the log of one service.
pub struct Reader {
    published: Published,
    epoch: Uuid,
    listener: Listener,
}

impl Reader {
    /// A reader of what a service publishes.
    ///
    /// # Errors
    ///
    /// As for any transaction: the epoch of the database is read.
    pub async fn open(published: Published) -> Result<Self, Error> {
        let epoch = epoch(&published.store).await?;
        let listener = published.notifier.listen(Key::Events(published.service));
        Ok(Self { published, epoch, listener })
    }

    /// The epoch of the database, which identifies its history.
    pub fn epoch(&self) -> Uuid {
        self.epoch
    }

    /// The bounds of the log.
    ///
    /// # Errors
    ///
    /// As for any statement.
    pub async fn end(&self) -> Result<End, Error> {
        log::end(self.published.store.reader()).await
    }

    /// Up to `limit` events behind a position. Call [`changed`](Self::changed) if there are none.
    ///
    /// # Errors
    ///
    /// As for any statement.
    pub async fn behind(&mut self, position: i64, limit: i64) -> Result<Vec<Event>, Error> {
        // Before the read: a change after it then notifies.
        self.listener.reset();
        let rows = log::page(self.published.store.reader(), position, limit).await?;
        Ok(rows.into_iter().map(message).collect())
    }

    /// Waits for events since the last read.
    pub async fn changed(&mut self) {
        self.listener.notified().await;
    }
}

impl Published {
    /// The name of the service.
    pub fn service(&self) -> &'static str {
        self.service
    }

    /// The database of the service.
    pub fn store(&self) -> &mesh_store::Store {
        &self.store
    }
}
