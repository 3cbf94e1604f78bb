//! Files that may be replaced while the process runs. They are read again and again: notifications of a file system
//! miss links that are swapped, and network file systems.
//!
//! Guarantees:
//! - What cannot be used leaves what is in use, with one warning of each mistake.
//! - Several files are not written at once: a state that cannot be used is reported if it lasts for two rounds.

use std::fmt;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// What could not be used in the last rounds.
#[derive(PartialEq)]
enum Reported {
    No,
    /// In one round.
    Seen(String),
    /// In several, and it is logged.
    Yes(String),
}

impl Reported {
    /// The next state, and whether it is to be logged.
    fn after(self, mistakes: String) -> (Self, bool) {
        match self {
            Self::Yes(logged) if logged == mistakes => (Self::Yes(logged), false),
            Self::Seen(seen) if seen == mistakes => (Self::Yes(seen), true),
            _ => (Self::Seen(mistakes), false),
        }
    }
}

/// Calls `read` again and again, which uses what is new. `what` names the files in the plural, for the log. Never
/// returns.
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
        reported = match tokio::task::spawn_blocking(read.clone()).await {
            Ok(Err(mistakes)) => {
                let (reported, logs) = reported.after(mistakes.to_string());
                if let (true, Reported::Yes(mistakes)) = (logs, &reported) {
                    tracing::warn!(mistakes, "the new {what} cannot be used; the old ones stay in use");
                }
                reported
            }
            _ => Reported::No,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_that_lasts_is_logged_once() {
        let mut reported = Reported::No;
        let mut logged = Vec::new();
        for mistake in ["a", "a", "a", "b", "b", "a", "b", "b"] {
            let (next, logs) = reported.after(mistake.to_owned());
            (reported, _) = (next, logged.extend(logs.then_some(mistake)));
        }
        assert_eq!(logged, ["a", "b", "b"]);
    }
}
