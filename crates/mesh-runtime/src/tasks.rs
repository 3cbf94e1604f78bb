//! A group of concurrent tasks that end together: a drain waits for them and cancels those that are left.

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A group of tasks. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Runs `task` until it ends or is cancelled.
    pub fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(self.cut.clone().run_until_cancelled_owned(task));
    }

    /// Waits until all tasks have ended.
    pub async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Cancels all tasks, each at its next await point.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Cancels all tasks when the guard is dropped.
    pub fn cut_on_drop(&self) -> DropGuard {
        self.cut.clone().drop_guard()
    }
}
