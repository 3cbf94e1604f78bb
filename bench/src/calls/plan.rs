//! The extent of the measurement of calls.

use std::time::Duration;

/// The extent of a measurement.
pub(super) struct Plan {
    /// The turns of each side.
    pub(super) rounds: usize,
    /// The duration of a turn over the network.
    pub(super) turn: Duration,
    /// The numbers of callers over the network.
    pub(super) callers: &'static [usize],
    /// The short turns of a round in memory, of which only the undisturbed count.
    pub(super) batches: usize,
}

pub(super) const FULL: Plan =
    Plan { rounds: 9, turn: Duration::from_secs(1), callers: &[1, 16, 64, 256, 1024], batches: 100 };

pub(super) const QUICK: Plan = Plan { rounds: 2, turn: Duration::from_millis(100), callers: &[1, 16], batches: 5 };
