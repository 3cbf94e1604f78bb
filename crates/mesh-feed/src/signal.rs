//! A signal: a count that others wait for. An idle stream has two, so it is much smaller than a channel.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;
use tokio::task::yield_now;

/// The number of waiters that are woken together.
const AT_ONCE: usize = 16;

/// Counts its notifications, and wakes the waiters of the next one.
#[derive(Default)]
pub(super) struct Signal {
    count: AtomicU64,
    waiters: AtomicUsize,
    waiting: Notify,
}

impl Signal {
    /// The number of notifications until now.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Notifies all waiters.
    pub(super) fn notify(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    /// Notifies all waiters, a few at a time in turn with the other tasks of the process, and returns their number.
    /// Hundreds at once would delay the task that writes what they wait for next.
    pub(super) async fn notify_in_turn(&self) -> usize {
        self.count.fetch_add(1, Ordering::SeqCst);
        let waiters = self.waiters.load(Ordering::SeqCst);
        // The longest waiter is woken first, so one that waits again comes after all of these.
        for turn in 1..=waiters {
            self.waiting.notify_one();
            if turn % AT_ONCE == 0 {
                yield_now().await;
            }
        }
        waiters
    }

    /// Waits until the count differs from `seen`.
    pub(super) async fn changed(&self, seen: u64) {
        let _waiter = Waiter::of(&self.waiters);
        loop {
            let mut notified = pin!(self.waiting.notified());
            // It receives each notification from here on.
            notified.as_mut().enable();
            if self.count() != seen {
                return;
            }
            notified.await;
        }
    }
}

/// Counts as a waiter until it is dropped.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn of(waiters: &'a AtomicUsize) -> Self {
        waiters.fetch_add(1, Ordering::SeqCst);
        Self(waiters)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Starts waiters, and lets them wait.
    async fn waiters(signal: &Arc<Signal>, number: usize) -> Vec<JoinHandle<()>> {
        let wait = |signal: Arc<Signal>| async move { signal.changed(signal.count()).await };
        let waiters = (0..number).map(|_| tokio::spawn(wait(Arc::clone(signal)))).collect();
        yield_now().await;
        waiters
    }

    #[tokio::test(start_paused = true)]
    async fn signal_in_turn_wakes_each_waiter_and_lets_others_run_between() {
        let signal = Arc::new(Signal::default());
        let mut waiters = waiters(&signal, 100).await;
        // One is gone before its turn.
        waiters.remove(50).abort();
        yield_now().await;

        let signalled = Arc::clone(&signal);
        let notifying = tokio::spawn(async move { signalled.notify_in_turn().await });
        yield_now().await;
        yield_now().await;
        assert!(!waiters.iter().all(JoinHandle::is_finished), "all at once");
        assert_eq!(notifying.await.unwrap(), 99);
        for waiter in waiters {
            timeout(LONG, waiter).await.expect("not woken").unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn signal_wakes_no_waiter_that_has_seen_it() {
        let signal = Signal::default();
        signal.notify_in_turn().await;
        signal.notify();
        signal.changed(0).await;
        assert!(timeout(LONG, signal.changed(2)).await.is_err());
    }
}
