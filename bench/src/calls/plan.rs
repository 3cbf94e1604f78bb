//! How much of the calls is measured.

use std::time::Duration;

/// How much is measured.
pub(super) struct Plan {
    /// How often each side has its turn.
    pub(super) rounds: usize,
    /// How long a turn over the network is.
    pub(super) turn: Duration,
    /// How many callers there are over the network.
    pub(super) callers: &'static [usize],
    /// How many short turns a round in memory has, of which those count that nothing came between.
    pub(super) batches: usize,
}

pub(super) const FULL: Plan =
    Plan { rounds: 9, turn: Duration::from_secs(1), callers: &[1, 16, 64, 256, 1024], batches: 100 };

pub(super) const QUICK: Plan = Plan { rounds: 2, turn: Duration::from_millis(100), callers: &[1, 16], batches: 5 };
