//! The extent of the measurement of calls.

/// The extent of a measurement.
pub(super) struct Plan {
    /// The turns of each side.
    pub(super) rounds: usize,
    /// The calls of a turn over the network.
    pub(super) calls: usize,
    /// The numbers of callers over the network.
    pub(super) callers: &'static [usize],
    /// The short turns of a round in memory, of which only the undisturbed count.
    pub(super) batches: usize,
}

pub(super) const FULL: Plan = Plan { rounds: 15, calls: 10_000, callers: &[1, 16, 64, 256, 1024], batches: 100 };

pub(super) const QUICK: Plan = Plan { rounds: 2, calls: 500, callers: &[1, 16], batches: 5 };
