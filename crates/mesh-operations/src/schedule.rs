//! When housekeeping is due: at an interval, counted from the start of the last run.

use std::time::Duration;

use super::clock::micros;

/// The shortest interval: a run is a few writes.
const SHORTEST: Duration = Duration::from_secs(1);
/// A last run that starts this much later than now was written before the clock went back.
const SLACK: Duration = Duration::from_secs(5);

/// When work is started by the service itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// The time from the start of a run to that of the next one.
    pub(super) interval: Duration,
    /// The time that a run may take.
    pub(super) deadline: Duration,
}

impl Schedule {
    /// # Errors
    ///
    /// An interval that is too short: one line that says so.
    pub(super) fn new(kind: &str, interval: Duration, deadline: Duration) -> Result<Self, String> {
        if interval < SHORTEST {
            return Err(format!("{kind} runs every {interval:?}: expected an interval of {SHORTEST:?} at least"));
        }
        Ok(Self { interval, deadline })
    }

    /// The time until the next run is due, if the last one started at a time.
    pub(super) fn left(&self, started: i64, now: i64) -> Option<Duration> {
        let went_back = started - now > micros(SLACK);
        let left = u64::try_from(started + micros(self.interval) - now).unwrap_or_default();
        (left > 0 && !went_back).then(|| Duration::from_micros(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn next_run_is_due_at_the_interval_after_the_start_of_the_last_one() {
        let schedule = Schedule::new("Purge", Duration::from_secs(60), Duration::from_secs(1)).unwrap();
        assert_eq!(schedule.left(0, 0), Some(Duration::from_secs(60)));
        assert_eq!(schedule.left(0, 59 * SECOND), Some(Duration::from_secs(1)));
        assert_eq!(schedule.left(0, 60 * SECOND), None);
        assert_eq!(schedule.left(0, i64::MAX / 2), None, "none ran for a long time");
        assert_eq!(schedule.left(4 * SECOND, 0), Some(Duration::from_secs(64)), "clocks of replicas differ");
        assert_eq!(schedule.left(3600 * SECOND, 0), None, "the clock went back");
    }

    #[test]
    fn schedule_without_an_interval_is_refused() {
        let refused = Schedule::new("Purge", Duration::ZERO, Duration::from_secs(1)).unwrap_err();
        assert_eq!(refused, "Purge runs every 0ns: expected an interval of 1s at least");
    }
}
