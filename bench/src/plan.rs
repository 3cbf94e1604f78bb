//! The extent of the measurement of operations.

use std::time::Duration;

/// The extent of a measurement.
pub(crate) struct Plan {
    /// The turns of each side.
    pub(crate) rounds: usize,
    /// The duration of a turn.
    pub(crate) turn: Duration,
    /// The events of a round of latencies.
    pub(crate) events: usize,
    /// The numbers of streams that get deliveries.
    pub(crate) streams: &'static [usize],
    /// The numbers of idle streams, each with those before it.
    pub(crate) idle: &'static [usize],
}

pub(crate) const FULL: Plan =
    Plan { rounds: 5, turn: Duration::from_secs(1), events: 200, streams: &[1, 64, 1024], idle: &[10_000, 50_000] };

pub(crate) const QUICK: Plan =
    Plan { rounds: 2, turn: Duration::from_millis(100), events: 10, streams: &[1, 8], idle: &[200, 1_000] };
