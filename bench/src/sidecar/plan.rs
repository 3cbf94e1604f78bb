//! The extent of the measurement of the sidecar.

/// The extent of a measurement.
pub(super) struct Plan {
    /// The turns of each side.
    pub(super) rounds: usize,
    /// The calls of a turn.
    pub(super) calls: usize,
    /// Connections at the same time, and how often they are opened and closed.
    pub(super) connections: usize,
    pub(super) waves: usize,
}

pub(super) const FULL: Plan = Plan { rounds: 7, calls: 10_000, connections: 1_000, waves: 10 };
pub(super) const QUICK: Plan = Plan { rounds: 2, calls: 200, connections: 50, waves: 10 };
