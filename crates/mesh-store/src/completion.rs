//! Runs a task to completion, even if its caller is dropped.

use super::error::Error;

/// Runs `task` in a task of its own and waits for its result. A panic becomes [`Error::Unavailable`].
pub(super) async fn run_to_completion<T: Send + 'static>(
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(task).await.unwrap_or(Err(sqlx::Error::WorkerCrashed.into()))
}
