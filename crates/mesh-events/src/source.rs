//! What a service publishes, and its log as streams follow it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mesh_feed::cursor::LogCursor;
use mesh_feed::epoch::epoch;
use mesh_feed::notifier::{Key, Notifier, ticks};
use mesh_feed::reader::{Readers, Source};
use mesh_feed::recent;
use mesh_feed::watchdog::Watchdog;
use mesh_proto::Events;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_proto::mesh::events::v1::{Event, SubscribeResponse};
use mesh_store::{Error, Store, timestamp};
use prost::Message as _;
use prost_types::Any;
use uuid::Uuid;

use super::log::{self, Row};

/// A page of the present state: the key of each row, and the row as an event.
type Snapshot = Arc<dyn Fn(Store, String, i64) -> BoxFuture<'static, Result<Vec<(String, Any)>, Error>> + Send + Sync>;

/// What a service publishes: the types of its events, and its present state as events.
#[derive(Clone)]
pub struct Publishes {
    pub(super) types: &'static [&'static str],
    pub(super) snapshot: Snapshot,
}

impl Publishes {
    /// The full names of the types of its events.
    pub fn types(&self) -> &'static [&'static str] {
        self.types
    }

    /// The events of a package. `snapshot(store, after, limit)` returns the rows behind a key, in the order of their
    /// keys, as events, `limit` at most; the key is empty at first. Fewer than `limit` are the last.
    pub fn new<E, F, S>(snapshot: S) -> Self
    where
        E: Events,
        F: Future<Output = Result<Vec<E>, Error>> + Send + 'static,
        S: Fn(Store, String, i64) -> F + Send + Sync + 'static,
    {
        let snapshot: Snapshot = Arc::new(move |store, after, limit| {
            let page = snapshot(store, after, limit);
            let pack = |event: E| (event.key().to_owned(), event.pack());
            Box::pin(async move { Ok(page.await?.into_iter().map(pack).collect()) })
        });
        Self { types: E::TYPES, snapshot }
    }
}

/// The events of one service. Cheap to clone.
#[derive(Clone)]
pub struct Published {
    pub(super) service: &'static str,
    pub(super) store: Store,
    pub(super) publishes: Publishes,
    pub(super) notifier: Notifier,
    pub(super) watchdog: Watchdog,
    pub(super) readers: Readers<Log>,
}

impl Published {
    /// The events in a service's database.
    pub fn new(service: &'static str, store: Store, notifier: Notifier, publishes: Publishes) -> Self {
        let (watchdog, readers) = (Watchdog::default(), Readers::default());
        Self { service, store, publishes, notifier, watchdog, readers }
    }

    /// Notifies streams of new events, also of those that other replicas number, and disconnects slow consumers. Never
    /// ends by itself.
    pub async fn poll(self) {
        tokio::join!(self.notify(), self.watchdog.sweep());
    }

    /// The epoch of the database, and the last position once all that is committed has one. It does not end while no
    /// process numbers events.
    ///
    /// # Errors
    ///
    /// As for any statement.
    pub async fn settled(&self) -> Result<(Uuid, i64), Error> {
        Ok((epoch(&self.store).await?, self.store.settled().await?))
    }

    async fn notify(&self) {
        let (mut numbered, mut ticks, mut known) = (self.store.numbered(), ticks(), 0);
        let key = Key::Events(self.service);
        loop {
            tokio::select! {
                _ = numbered.changed() => self.notifier.notify(&key),
                _ = ticks.tick() => match log::end(self.store.reader()).await {
                    Ok(end) if end.head != known => {
                        known = end.head;
                        self.notifier.notify(&key);
                    }
                    // The streams find out by reads of their own.
                    Ok(_) | Err(_) => {}
                },
            }
        }
    }
}

/// The log of a service, which its streams share.
pub(super) struct Log {
    pub(super) store: Store,
    pub(super) epoch: Uuid,
}

impl Source for Log {
    const RECENT_BYTES: usize = 1024 * 1024;

    async fn page(&self, number: i64) -> Result<Vec<recent::Event>, Error> {
        let limit = i64::try_from(log::PAGE).unwrap_or(i64::MAX);
        let rows = log::page(self.store.reader(), number, limit).await?;
        Ok(rows.into_iter().map(|row| self.event(row)).collect())
    }

    async fn ends_at(&self, number: i64) -> Result<bool, Error> {
        let end = log::end(self.store.reader()).await?;
        // Events may have been numbered since the page was read.
        Ok((end.floor - 1..=end.head).contains(&number))
    }
}

impl Log {
    fn event(&self, row: Row) -> recent::Event {
        let (number, head, kind) = (row.position, row.head, row.kind.clone());
        let cursor = LogCursor { epoch: self.epoch, position: number, told: row.told, snapshot: None };
        let frame = frame(&cursor, head, Frame::Event(message(row)));
        recent::Event { number, change: 0, kind, done: false, frame }
    }
}

/// A row as the message of the contract.
pub(super) fn message(row: Row) -> Event {
    Event {
        id: row.id,
        position: row.position,
        time: Some(timestamp(row.told)),
        key: row.key,
        data: Some(Any { type_url: format!("type.googleapis.com/{}", row.kind), value: row.payload }),
        traceparent: row.trace,
        correlation_id: row.correlation,
        causation_id: row.causation,
        hops: i32::try_from(row.hops).unwrap_or(i32::MAX),
    }
}

/// An encoded message of Subscribe.
pub(super) fn frame(cursor: &LogCursor, head: i64, frame: Frame) -> Bytes {
    SubscribeResponse { cursor: cursor.to_bytes(), head, frame: Some(frame) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use mesh_store::{Database, LOG, open};

    use super::*;

    #[tokio::test]
    async fn log_ends_at_a_number_although_events_were_numbered_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("things.db"));
        let store = open("things", &database, &[LOG], &[]).await.unwrap();
        let mut tx = store.begin().await.unwrap();
        sqlx::query("UPDATE events_head SET head = 9, floor = 5").execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let log = Log { store, epoch: Uuid::nil() };
        for (number, ends) in [(3, false), (4, true), (8, true), (9, true), (10, false)] {
            assert_eq!(log.ends_at(number).await.unwrap(), ends, "{number}");
        }
    }
}
