//! Waiting for a change: Consul's blocking queries.
//!
//! The agent holds a request that carries an index until something is newer than it, or the wait is over. Four things
//! have to be right, and each has left clients blind or spinning:
//!
//! - The agent adds up to a sixteenth to the wait. The client's own limit has to be longer than both.
//! - An answer that is not a success carries an index too, and it means nothing. It is not read here.
//! - Indexes start again when servers do. One that goes down has to be forgotten, and so has one after *any* error: a
//!   fresh agent would compare it with its own small ones, and hold the request for a whole wait.
//!   [`Indexed::next`] does the former, `Blocking { index: 0, .. }` after an error the latter.
//! - The end of a wait looks like a change. Compare what you got with what you had.

use std::time::Duration;

/// How a request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocking {
    /// The index of what is already known; 0 answers at once.
    pub index: u64,
    /// How long to hold the request if nothing changes: 1 millisecond to 10 minutes, which is the most that Consul
    /// does. Long waits cost nothing; a watch that has to notice a lost agent soon wants a short one.
    pub wait: Duration,
}

/// An answer, and the state of the servers that it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexed<T> {
    /// What to wait behind. 0 if Consul does not say.
    pub index: u64,
    /// The answer.
    pub value: T,
}

impl<T> Indexed<T> {
    /// The index to wait behind after this answer, when the question was asked with `previous`: 0 if indexes went down.
    pub fn next(&self, previous: u64) -> u64 {
        if self.index < previous { 0 } else { self.index }
    }

    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Indexed<U> {
        Indexed { index: self.index, value: map(self.value) }
    }
}

/// The agent adds up to a sixteenth, so that not all who began together end together.
pub(crate) fn longest(wait: Duration) -> Duration {
    wait + wait / 16
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Indexed, longest};

    #[test]
    fn an_index_that_goes_down_is_forgotten() {
        let answer = Indexed { index: 7, value: () };
        assert_eq!([answer.next(0), answer.next(6), answer.next(7), answer.next(8)], [7, 7, 7, 0]);
    }

    #[test]
    fn the_agents_part_of_the_wait_is_waited_for() {
        assert_eq!(longest(Duration::from_secs(16)), Duration::from_secs(17));
    }
}
