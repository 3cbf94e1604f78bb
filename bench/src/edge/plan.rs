//! The extent of the measurement of the edge.

use std::time::Duration;

/// The extent of a measurement.
pub(super) struct Plan {
    /// The turns of each side.
    pub(super) rounds: usize,
    /// The requests of a turn.
    pub(super) requests: usize,
    /// The short turns of a round in memory, of which only the undisturbed count.
    pub(super) batches: usize,
    /// The number of idle event sources.
    pub(super) idle: usize,
    /// The number of event sources that get deliveries, and how long.
    pub(super) sources: usize,
    pub(super) turn: Duration,
}

pub(super) const FULL: Plan =
    Plan { rounds: 7, requests: 10_000, batches: 100, idle: 10_000, sources: 1_000, turn: Duration::from_secs(1) };

pub(super) const QUICK: Plan =
    Plan { rounds: 2, requests: 200, batches: 5, idle: 200, sources: 8, turn: Duration::from_millis(100) };
