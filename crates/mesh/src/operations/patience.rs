//! Lets go of streams whose clients do not take what there is for them.
//!
//! A client that does not read stops its stream wherever it stands: HTTP/2 has no room for another frame, so nobody
//! polls the stream, and it cannot notice by itself. It is looked at from outside. Every stream has something to say at
//! its next heartbeat at the latest; one that nobody has asked for longer than that and a minute has a client that
//! takes nothing.
//!
//! What can be done at once is to free what the stream holds: what it has read ahead, and its place among those who are
//! woken. (A connection of the database it does not hold, see `stream::finish`.) The client cannot be told, since it
//! does not read. If it ever reads again, it finds ABORTED, reason `SLOW_CONSUMER`, behind what was on its way already,
//! and resumes by its cursor.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::error::{DOMAIN, status};

/// How long a client may leave lying what there is for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often all streams are looked at. One that should go may stay for this much longer.
const SWEEP: Duration = Duration::from_secs(5);

/// The patience with the streams of one service. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Patience(Arc<Mutex<Vec<Weak<dyn Patient>>>>);

/// A stream that may be let go of.
trait Patient: Send + Sync {
    fn let_go_if_left(&self, now: Instant);
}

/// A stream in a place where it can be reached while nobody polls it.
struct Place<S> {
    /// `None` once it was let go of.
    stream: Option<Pin<Box<S>>>,
    asked: Instant,
    patience: Duration,
}

impl Patience {
    /// Keeps an eye on a stream that is asked for more at least every `pause`, if its client takes what there is.
    pub(super) fn with<S, T>(&self, stream: S, pause: Duration) -> impl Stream<Item = S::Item> + Send + use<S, T>
    where
        S: Stream<Item = Result<T, Status>> + Send + 'static,
    {
        let place = Place { stream: Some(Box::pin(stream)), asked: Instant::now(), patience: pause + PATIENCE };
        let place = Arc::new(Mutex::new(place));
        let weak: Weak<Mutex<Place<S>>> = Arc::downgrade(&place);
        self.lock().push(weak);
        Watched(place)
    }

    /// Looks at all of them again and again. Never ends by itself.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            let mut left = Vec::new();
            self.lock().retain(|patient| patient.upgrade().map(|patient| left.push(patient)).is_some());
            // Not under the lock: what is dropped here may be long.
            left.iter().for_each(|patient| patient.let_go_if_left(now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn Patient>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Send> Patient for Mutex<Place<S>> {
    fn let_go_if_left(&self, now: Instant) {
        // Whoever holds it is asking right now.
        let Ok(mut place) = self.try_lock() else { return };
        if now.duration_since(place.asked) > place.patience {
            place.stream = None;
        }
    }
}

/// The same stream, as its client has it.
struct Watched<S>(Arc<Mutex<Place<S>>>);

impl<S: Stream<Item = Result<T, Status>>, T> Stream for Watched<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.asked = Instant::now();
        match &mut place.stream {
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

    /// A stream that always has something, and whether it is still there.
    fn plenty(patience: &Patience) -> (impl Stream<Item = Result<u8, Status>> + Unpin + use<>, Weak<()>) {
        let held = Arc::new(());
        let there = Arc::downgrade(&held);
        let stream = futures_util::stream::repeat_with(move || {
            let _held = &held;
            Ok(7)
        });
        (Box::pin(patience.with(stream, PAUSE)), there)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_takes_from_is_let_go_and_told_so_when_somebody_does() {
        let patience = Patience::default();
        let (mut slow, slow_there) = plenty(&patience);
        let (mut quick, quick_there) = plenty(&patience);
        let sweeping = patience.clone();
        tokio::spawn(async move { sweeping.sweep().await });

        assert_eq!(slow.next().await.unwrap().unwrap(), 7);
        for _ in 0..5 {
            assert!(slow_there.upgrade().is_some());
            tokio::time::sleep(PAUSE).await;
            assert_eq!(quick.next().await.unwrap().unwrap(), 7);
        }
        // A minute behind the heartbeat that it has not taken, and a sweep.
        tokio::time::sleep(SWEEP * 2).await;
        assert!(slow_there.upgrade().is_none() && quick_there.upgrade().is_some());

        let told = slow.next().await.unwrap().unwrap_err();
        assert_eq!(told.code(), Code::Aborted);
        assert_eq!(told.get_error_details().error_info().unwrap().reason, "SLOW_CONSUMER");
        assert_eq!(quick.next().await.unwrap().unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_left_of_streams_that_ended() {
        let patience = Patience::default();
        let (stream, there) = plenty(&patience);
        drop(stream);
        assert!(there.upgrade().is_none());
        let _ = tokio::time::timeout(SWEEP * 2, patience.sweep()).await;
        assert!(patience.lock().is_empty());
    }
}
