//! The end of the log, with all that has been committed.

use std::time::Duration;

use sqlx::Row as _;
use sqlx::any::AnyRow;
use tokio::time::timeout;

use super::error::Error;
use super::store::Store;

/// The interval at which rows are looked for that another process numbers.
const POLL: Duration = Duration::from_millis(5);

/// The log: its last position, and the first and the last row that wait for theirs; 0 if none does.
const ENDS: &str = "SELECT head, COALESCE((SELECT min(staged) FROM events_staged), 0) AS first,
        COALESCE((SELECT max(staged) FROM events_staged), 0) AS last
    FROM events_head WHERE id = 1";

impl Store {
    /// Waits until all rows of the log that are committed now have their positions, and returns the last position. On
    /// SQLite they always have. It does not end while no process numbers rows.
    ///
    /// # Errors
    ///
    /// As for any statement.
    pub async fn settled(&self) -> Result<i64, Error> {
        let mut numbered = self.numbered();
        let mut until = None;
        loop {
            let ends = sqlx::query(ENDS).try_map(|row: AnyRow| {
                Ok::<(i64, i64, i64), _>((row.try_get("head")?, row.try_get("first")?, row.try_get("last")?))
            });
            let (head, first, last) = ends.fetch_one(self.reader()).await?;
            // Rows that were staged later may wait longer.
            if first == 0 || first > *until.get_or_insert(last) {
                return Ok(head);
            }
            let _ = timeout(POLL, numbered.changed()).await;
        }
    }
}
