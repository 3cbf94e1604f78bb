//! The slow-consumer watchdog: disconnects streams whose clients do not read.
//!
//! A client that does not read fills its HTTP/2 window. Its stream is then not polled and cannot detect this itself, so
//! the watchdog checks from outside. A stream has a frame to send at its next heartbeat at the latest; a stream that
//! was not polled for that time and another minute has a slow client.
//!
//! The watchdog frees the rows that the stream has read ahead, and its listener. The client learns of it when it reads:
//! behind the frames that were sent before, it finds ABORTED, reason `SLOW_CONSUMER`, and resumes by its cursor.
//!
//! Does not: free connections to the database. A stream holds none, see [`finish`](super::stream::finish).

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use mesh_rpc::call::error::{DOMAIN, status};
use tokio::time::Instant;
use tonic::{Code, Status};

/// The longest time that a client may leave a frame unread.
const LIMIT: Duration = Duration::from_secs(60);
/// The interval of sweeps. A slow client may stay connected for this much longer.
const SWEEP: Duration = Duration::from_secs(5);

/// Watches the streams of one service. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watchdog(Arc<Mutex<Vec<Weak<dyn Guarded>>>>);

/// A stream that may be disconnected.
trait Guarded: Send + Sync {
    fn disconnect_if_slow(&self, now: Instant);
}

/// A stream that the watchdog can drop while it is not polled.
struct Slot<S> {
    /// `None` after the disconnect.
    stream: Option<Pin<Box<S>>>,
    polled: Instant,
    limit: Duration,
}

impl Watchdog {
    /// Guards a stream. `pause` is the longest time between two polls if its client reads.
    pub fn guard<S, T>(&self, stream: S, pause: Duration) -> impl Stream<Item = S::Item> + Send + use<S, T>
    where
        S: Stream<Item = Result<T, Status>> + Send + 'static,
    {
        let slot = Slot { stream: Some(Box::pin(stream)), polled: Instant::now(), limit: pause + LIMIT };
        let slot = Arc::new(Mutex::new(slot));
        let weak: Weak<Mutex<Slot<S>>> = Arc::downgrade(&slot);
        self.lock().push(weak);
        Watched(slot)
    }

    /// Checks all streams every 5 s. Never ends by itself.
    pub async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            let mut left = Vec::new();
            self.lock().retain(|stream| stream.upgrade().map(|stream| left.push(stream)).is_some());
            // Outside the lock: dropping a stream may take long.
            left.iter().for_each(|stream| stream.disconnect_if_slow(now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Guarded>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Send> Guarded for Mutex<Slot<S>> {
    fn disconnect_if_slow(&self, now: Instant) {
        // A locked stream is being polled.
        let Ok(mut slot) = self.try_lock() else { return };
        if now.duration_since(slot.polled) > slot.limit {
            slot.stream = None;
        }
    }
}

/// The guarded stream, which the client polls.
struct Watched<S>(Arc<Mutex<Slot<S>>>);

impl<S: Stream<Item = Result<T, Status>>, T> Stream for Watched<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.polled = Instant::now();
        match &mut slot.stream {
            Some(stream) => stream.as_mut().poll_next(cx),
            None => Poll::Ready(Some(Err(slow_consumer()))),
        }
    }
}

/// ABORTED: resume by the cursor of the last frame that was applied.
fn slow_consumer() -> Status {
    let message = "this stream was not read for a minute; resume it by its cursor";
    status(Code::Aborted, DOMAIN, "SLOW_CONSUMER", message)
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tonic_types::StatusExt as _;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(15);

    /// A stream that always has a frame, and a handle that shows whether the stream still exists.
    fn endless(watchdog: &Watchdog) -> (impl Stream<Item = Result<u8, Status>> + Unpin + use<>, Weak<()>) {
        let held = Arc::new(());
        let there = Arc::downgrade(&held);
        let stream = futures_util::stream::repeat_with(move || {
            let _held = &held;
            Ok(7)
        });
        (Box::pin(watchdog.guard(stream, PAUSE)), there)
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_disconnects_a_stream_that_is_not_read() {
        let watchdog = Watchdog::default();
        let (mut slow, slow_there) = endless(&watchdog);
        let (mut quick, quick_there) = endless(&watchdog);
        let sweeping = watchdog.clone();
        tokio::spawn(async move { sweeping.sweep().await });

        assert_eq!(slow.next().await.unwrap().unwrap(), 7);
        for _ in 0..5 {
            assert!(slow_there.upgrade().is_some());
            tokio::time::sleep(PAUSE).await;
            assert_eq!(quick.next().await.unwrap().unwrap(), 7);
        }
        // One minute after the heartbeat that was not read, and a sweep.
        tokio::time::sleep(SWEEP * 2).await;
        assert!(slow_there.upgrade().is_none() && quick_there.upgrade().is_some());

        let status = slow.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(status.get_error_details().error_info().unwrap().reason, "SLOW_CONSUMER");
        assert_eq!(quick.next().await.unwrap().unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn watchdog_drops_streams_that_ended() {
        let watchdog = Watchdog::default();
        let (stream, there) = endless(&watchdog);
        drop(stream);
        assert!(there.upgrade().is_none());
        let _ = tokio::time::timeout(SWEEP * 2, watchdog.sweep()).await;
        assert!(watchdog.lock().is_empty());
    }
}
