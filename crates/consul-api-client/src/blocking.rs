//! Waits for changes with Consul's blocking queries.
//!
//! The agent holds a request that carries an index until a newer state exists or the wait ends.
//!
//! # Guarantees
//!
//! - The client's time limit exceeds the wait by the sixteenth that the agent may add.
//! - An index is read from successful responses only. Error responses carry a meaningless one.
//!
//! # Does not
//!
//! - Reset the index. [`Indexed::next`] returns 0 after the index went backwards; after *any* error, continue with
//!   `index: 0`. Otherwise a restarted agent, whose indexes are small, holds the request for a whole wait.
//! - Detect changes. The end of a wait looks like a change: compare the value with the previous one.
//!
//! # See
//!
//! - [Blocking queries](https://developer.hashicorp.com/consul/api-docs/features/blocking)

use std::time::Duration;

/// The wait of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocking {
    /// Index of the known state. With 0, the agent answers at once.
    pub index: u64,
    /// Maximum time until the response: 1 millisecond to 10 minutes; Consul caps longer waits. A shorter wait detects
    /// a lost agent sooner.
    pub wait: Duration,
}

/// A value and the index of the state that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexed<T> {
    /// Index for the next blocking query; 0 if Consul sent none.
    pub index: u64,
    /// The decoded response.
    pub value: T,
}

impl<T> Indexed<T> {
    /// Returns the index for the next blocking query after one with index `previous`; 0 if the index went backwards.
    pub fn next(&self, previous: u64) -> u64 {
        if self.index < previous { 0 } else { self.index }
    }

    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Indexed<U> {
        Indexed { index: self.index, value: map(self.value) }
    }
}

/// The agent adds up to a sixteenth as jitter.
pub(crate) fn longest(wait: Duration) -> Duration {
    wait + wait / 16
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Indexed, longest};

    #[test]
    fn next_resets_an_index_that_goes_backwards() {
        let answer = Indexed { index: 7, value: () };
        assert_eq!([answer.next(0), answer.next(6), answer.next(7), answer.next(8)], [7, 7, 7, 0]);
    }

    #[test]
    fn longest_includes_the_agents_jitter() {
        assert_eq!(longest(Duration::from_secs(16)), Duration::from_secs(17));
    }
}
