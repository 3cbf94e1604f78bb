//! The keys that say how long operations are kept.

use std::time::Duration;

use mesh_runtime::settings::{Key, Settings, parse};

/// How long operations are kept. 1 min to 10 years each.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// An operation, from when it is done.
    pub operations: Duration,
    /// A row of the feed, which streams are resumed with, from when it was written.
    pub events: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// As humantime has it.
const YEAR: Duration = Duration::from_secs(31_557_600);
const ALLOWED: &str = "a time from 1m to 10years, such as 30d";

impl Retention {
    /// Reads `operations.keep` and `operations.keep_events`.
    pub fn take(settings: &mut Settings) -> Self {
        let within = || parse::time(Duration::from_secs(60), 10 * YEAR);
        Self {
            // Long enough to come back to after a holiday.
            operations: settings.take(&Key::new("operations.keep", ALLOWED), 30 * DAY, within()),
            // Long enough to repair a client that follows a feed.
            events: settings.take(&Key::new("operations.keep_events", ALLOWED), 7 * DAY, within()),
        }
    }
}
