//! The setting `events.keep`: the time that events are kept.

use std::time::Duration;

use mesh_runtime::settings::{Key, Settings, parse};

/// The time that events are kept, from 1 min to 10 years; 7 days by default.
#[derive(Clone, Copy, Debug)]
pub struct Keep(pub Duration);

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A year of humantime.
const YEAR: Duration = Duration::from_secs(31_557_600);

impl Keep {
    /// Reads `events.keep`.
    pub fn take(settings: &mut Settings) -> Self {
        let allowed = format!("a time from 1min to 10years, such as 30d ({})", parse::TIME_UNITS);
        let within = parse::time(Duration::from_secs(60), 10 * YEAR);
        // Covers the repair of a reader.
        Self(settings.take(&Key::new("events.keep", &*allowed), 7 * DAY, within))
    }
}
