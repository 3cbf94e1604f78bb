//! What a process does at the same time, so that it can wait for all of it, and cut off what does not end.

use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Tasks that end together. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Tasks {
    cut: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move { cut.run_until_cancelled_owned(task).await });
    }

    /// Until all of them have ended.
    pub(crate) async fn finish(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends them wherever they are.
    pub(crate) fn cut(&self) {
        self.cut.cancel();
    }

    pub(crate) fn cut_on_drop(&self) -> DropGuard {
        self.cut.clone().drop_guard()
    }
}
