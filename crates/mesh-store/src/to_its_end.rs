//! Work that goes on when its caller leaves.

use super::error::Error;

/// Runs a task to its end, also if the caller is dropped meanwhile.
pub(super) async fn to_its_end<T: Send + 'static>(
    task: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(task).await.unwrap_or(Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
}
