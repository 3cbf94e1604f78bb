//! The settings `operations.keep` and `operations.keep_events`: the time that operations and their events are kept.

use std::time::Duration;

use mesh_runtime::settings::{Key, Settings, parse};

/// The time that operations and their events are kept, each from 1 min to 10 years.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The time from the end of an operation to its deletion. 30 days by default.
    pub operations: Duration,
    /// The time from the write of a feed row to its deletion. 7 days by default. A stream resumes within this time.
    pub events: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A year of humantime.
const YEAR: Duration = Duration::from_secs(31_557_600);

impl Retention {
    /// Reads `operations.keep` and `operations.keep_events`.
    pub fn take(settings: &mut Settings) -> Self {
        let within = || parse::time(Duration::from_secs(60), 10 * YEAR);
        let allowed = format!("a time from 1min to 10years, such as 30d ({})", parse::TIME_UNITS);
        Self {
            // Covers a holiday.
            operations: settings.take(&Key::new("operations.keep", &*allowed), 30 * DAY, within()),
            // Covers the repair of a client that follows a feed.
            events: settings.take(&Key::new("operations.keep_events", &*allowed), 7 * DAY, within()),
        }
    }
}
