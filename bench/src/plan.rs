//! How much of the operations is measured.

use std::time::Duration;

/// How much is measured.
pub(crate) struct Plan {
    /// How often each side has its turn.
    pub(crate) rounds: usize,
    /// How long a turn is.
    pub(crate) turn: Duration,
    /// How many events a round of latencies has.
    pub(crate) events: usize,
    /// How many streams are delivered to.
    pub(crate) streams: &'static [usize],
    /// How many streams idle, each with those before it.
    pub(crate) idle: &'static [usize],
}

pub(crate) const FULL: Plan =
    Plan { rounds: 5, turn: Duration::from_secs(1), events: 200, streams: &[1, 64, 1024], idle: &[10_000, 50_000] };

pub(crate) const QUICK: Plan =
    Plan { rounds: 2, turn: Duration::from_millis(100), events: 10, streams: &[1, 8], idle: &[200, 1_000] };
