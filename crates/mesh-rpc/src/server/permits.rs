//! The permits of a server: a counter, and a queue for those who find it at zero.
//!
//! Guarantees:
//! - To take a free permit and to give it back locks nothing. tokio's semaphore locks its queue at each return.
//! - Those who wait are woken in order. While somebody waits, nobody else takes a permit without joining the queue; one
//!   that joins just when a permit is given back may get it first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A number of permits.
pub(super) struct Permits {
    free: AtomicUsize,
    waiting: AtomicUsize,
    freed: Notify,
}

/// A permit, until it is dropped.
pub(super) struct Permit(Arc<Permits>);

impl Permits {
    pub(super) fn new(free: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(free), waiting: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// A permit that is free, if nobody waits for one.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Permit> {
        if self.waiting.load(Ordering::SeqCst) == 0 { self.take_free() } else { None }
    }

    /// Waits for a permit.
    pub(super) async fn take(self: Arc<Self>) -> Permit {
        let _waiting = Waiting::begin(&self);
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            // A permit that is given back from here on wakes this task.
            freed.as_mut().enable();
            if let Some(permit) = self.take_free() {
                return permit;
            }
            freed.await;
        }
    }

    fn take_free(self: &Arc<Self>) -> Option<Permit> {
        let taken = self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |free| free.checked_sub(1));
        taken.is_ok().then(|| Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.freed.notify_one();
        }
    }
}

/// A task in the queue.
struct Waiting<'a>(&'a Permits);

impl<'a> Waiting<'a> {
    fn begin(permits: &'a Permits) -> Self {
        permits.waiting.fetch_add(1, Ordering::SeqCst);
        Self(permits)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test(start_paused = true)]
    async fn permits_are_given_in_order_and_lost_by_nobody() {
        let permits = Permits::new(1);
        let first = permits.try_take().unwrap();
        assert!(permits.try_take().is_none());
        let mut second = tokio::spawn(Arc::clone(&permits).take());
        let mut third = tokio::spawn(Arc::clone(&permits).take());
        tokio::task::yield_now().await;
        drop(first);
        assert!(permits.try_take().is_none(), "others wait for it");
        let second_permit = (&mut second).await.unwrap();
        assert!(timeout(Duration::from_secs(1), &mut third).await.is_err());
        // One that gives up passes its turn on.
        let fourth = tokio::spawn(Arc::clone(&permits).take());
        tokio::task::yield_now().await;
        third.abort();
        drop(second_permit);
        drop(fourth.await.unwrap());
        assert!(permits.try_take().is_some(), "nobody waits any more");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn permits_are_never_exceeded_nor_forgotten() {
        let (permits, taken) = (Permits::new(3), Arc::new(AtomicUsize::new(0)));
        let tasks = (0..8).map(|_| {
            let (permits, taken) = (Arc::clone(&permits), Arc::clone(&taken));
            tokio::spawn(async move {
                for _ in 0..2000 {
                    let permit = match permits.try_take() {
                        Some(permit) => permit,
                        None => Arc::clone(&permits).take().await,
                    };
                    assert!(taken.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    taken.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(permits.free.load(Ordering::SeqCst), 3);
    }
}
