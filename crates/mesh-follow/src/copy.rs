//! Whether the copy of a source is complete, and how far it is, for the calls that read it.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh_rpc::call::error::unavailable_with;
use mesh_store::{Error, Store};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tonic::Status;
use uuid::Uuid;

use super::place::Place;
use super::reached::Reached;
use super::row;

/// The delay before a caller retries.
const RETRY: Duration = Duration::from_secs(1);
/// The interval at which calls that wait look for what another process has applied.
const POLL: Duration = Duration::from_millis(10);

/// The copy of a source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Copied {
    source: &'static str,
    store: Store,
    complete: Arc<AtomicBool>,
    reached: Reached,
    /// When the row of the follower was last read for calls that wait.
    read: Arc<Mutex<Option<Instant>>>,
}

impl Copied {
    /// The copy of `source` in the database of a service. Its follower begins with it.
    ///
    /// # Errors
    ///
    /// As for any transaction.
    pub async fn open(store: &Store, source: &'static str) -> Result<Self, Error> {
        row::create(store, source).await?;
        let place = row::read(store.reader(), store.dialect(), source).await?.place;
        let (complete, reached) = (Arc::new(AtomicBool::new(place.whole > 0)), Reached::new(&place));
        Ok(Self { source, store: store.clone(), complete, reached, read: Arc::default() })
    }

    /// Checks that the copy has once been complete. Call it before a read: what is not in an incomplete copy may exist.
    /// A rebuild serves the old rows, so a copy that was complete stays so.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE, `COPY_INCOMPLETE`, with `RetryInfo`: the first snapshot has not ended.
    pub fn complete(&self) -> Result<(), Status> {
        if self.complete.load(Ordering::Relaxed) {
            return Ok(());
        }
        let message = format!("the copy of `{}` is not complete yet; retry later", self.source);
        Err(unavailable_with("COPY_INCOMPLETE", message, RETRY, [("source", self.source.to_owned())]))
    }

    /// Waits until the copy has all events of the source up to a position of an epoch. An event that is parked counts
    /// as one that it has. A copy that is being rebuilt is waited for until its end. It does not end if the epoch never
    /// comes.
    pub async fn reached(&self, epoch: Uuid, position: i64) {
        tokio::select! {
            biased;
            () = self.reached.wait(epoch, position) => {}
            never = self.look() => match never {},
        }
    }

    /// Looks for what another process applies. The process of an embedded database is alone.
    async fn look(&self) -> Infallible {
        while !self.store.dialect().is_alone() {
            let mut read = self.read.lock().await;
            // One read is enough for all calls that wait.
            if read.is_none_or(|last| last.elapsed() >= POLL) {
                // The database is away: the next round, or the handler, finds out.
                if let Ok(row) = row::read(self.store.reader(), self.store.dialect(), self.source).await {
                    self.move_to(&row.place);
                }
                *read = Some(Instant::now());
            }
            drop(read);
            sleep(POLL).await;
        }
        pending().await
    }

    /// The follower is at a place.
    pub(super) fn move_to(&self, place: &Place) {
        if place.whole > 0 {
            self.complete.store(true, Ordering::Relaxed);
        }
        self.reached.raise(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FOLLOWERS;
    use mesh_store::{Database, open};
    use tonic::Code;
    use tonic_types::StatusExt as _;

    #[tokio::test]
    async fn copy_is_refused_until_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("copy.db"));
        let store = open("library", &database, &[FOLLOWERS], &[]).await.unwrap();
        let copied = Copied::open(&store, "catalog").await.unwrap();
        let refused = copied.complete().unwrap_err();
        let details = refused.get_error_details();
        assert_eq!((refused.code(), &*details.error_info().unwrap().reason), (Code::Unavailable, "COPY_INCOMPLETE"));
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(RETRY));
        let place = row::read(store.reader(), store.dialect(), "catalog").await.unwrap().place;
        copied.clone().move_to(&Place { whole: place.generation, ..place });
        copied.complete().unwrap();
    }
}
