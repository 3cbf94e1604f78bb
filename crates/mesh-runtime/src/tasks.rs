//! Concurrent tasks that end together: a process waits for all of them, and cuts off those that do not end.

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Tasks that end together. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Runs `task` until it ends or is cut off.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move { cut.run_until_cancelled_owned(task).await });
    }

    /// Waits until all of them have ended.
    pub async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Cuts all of them off, at the next point where they wait.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Cuts all of them off when the guard is dropped.
    pub fn cut_on_drop(&self) -> DropGuard {
        self.cut.clone().drop_guard()
    }
}
