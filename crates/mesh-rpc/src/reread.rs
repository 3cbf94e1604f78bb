//! Files that may be replaced while the process runs. They are read again and again: notifications of a file system miss links
//! that are swapped, and network file systems.
//!
//! Guarantees:
//! - What cannot be used leaves what is in use, with one warning.
//! - Several files are not written at once: a state that cannot be used is reported if it lasts for two rounds.

use std::fmt;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// Whether what cannot be used was logged.
enum Reported {
    No,
    Seen,
    Yes,
}

/// Calls `read` again and again, which uses what is new. `what` names the files in the plural, for the log. Never returns.
pub(crate) async fn reread<E: fmt::Display + Send + 'static>(
    every: Duration,
    what: &'static str,
    read: impl Fn() -> Result<(), E> + Clone + Send + 'static,
) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut reported = Reported::No;
    loop {
        ticks.tick().await;
        // Files may lie on a network. A panic, which nothing causes, would leave what is in use.
        reported = match (tokio::task::spawn_blocking(read.clone()).await, reported) {
            (Ok(Err(mistakes)), Reported::Seen) => {
                tracing::warn!(%mistakes, "the new {what} cannot be used; the old ones stay in use");
                Reported::Yes
            }
            (Ok(Err(_)), Reported::No) => Reported::Seen,
            (Ok(Err(_)), Reported::Yes) => Reported::Yes,
            _ => Reported::No,
        };
    }
}
