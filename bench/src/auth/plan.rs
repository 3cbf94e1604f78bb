//! The extent of the measurement.

/// The extent of a measurement.
pub(super) struct Plan {
    /// The turns of each side.
    pub(super) rounds: usize,
    /// The calls of a turn over the network.
    pub(super) calls: usize,
    /// The callers over the network.
    pub(super) callers: usize,
    /// The checks of a turn.
    pub(super) checks: usize,
    /// The handshakes of a turn.
    pub(super) handshakes: usize,
}

pub(super) const FULL: Plan = Plan { rounds: 15, calls: 10_000, callers: 64, checks: 1_000, handshakes: 1_000 };

pub(super) const QUICK: Plan = Plan { rounds: 2, calls: 500, callers: 16, checks: 20, handshakes: 50 };
