//! The extent of the measurement of events.

use std::time::Duration;

/// The extent of a measurement.
pub(super) struct Plan {
    /// The turns of each side.
    pub(super) rounds: usize,
    /// The duration of a turn.
    pub(super) turn: Duration,
    /// The events that a reader is behind.
    pub(super) behind: usize,
    /// The events of a round of latencies.
    pub(super) events: usize,
    /// The rows of the snapshot.
    pub(super) rows: usize,
}

pub(super) const FULL: Plan =
    Plan { rounds: 7, turn: Duration::from_secs(1), behind: 60_000, events: 200, rows: 200_000 };

pub(super) const QUICK: Plan =
    Plan { rounds: 2, turn: Duration::from_millis(100), behind: 1_000, events: 10, rows: 1_000 };
