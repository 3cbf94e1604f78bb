//! What clients share, such as memory: one client has a part of it at most.
//!
//! Guarantees: the table has the clients that hold something, and no others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An amount, and who holds how much of it.
pub(crate) struct Shares {
    /// What one client may hold.
    each: usize,
    /// What all clients may hold.
    all: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// What a client holds for one purpose. Dropping it gives it back.
pub(crate) struct Share {
    shares: Arc<Shares>,
    client: IpAddr,
    amount: usize,
}

impl Shares {
    pub(crate) fn new(each: usize, all: usize) -> Arc<Self> {
        Arc::new(Self { each, all, held: Mutex::default() })
    }

    /// A share of nothing yet.
    pub(crate) fn of(self: &Arc<Self>, client: IpAddr) -> Share {
        Share { shares: Arc::clone(self), client, amount: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_unused(&self) -> bool {
        let held = self.lock();
        held.all == 0 && held.by_client.is_empty()
    }
}

impl Share {
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// A share of the same client for another purpose, of nothing yet.
    pub(crate) fn another(&self) -> Self {
        self.shares.of(self.client)
    }

    /// Takes more. If the client or all clients would hold too much, it takes nothing and returns `false`.
    #[must_use]
    pub(crate) fn take(&mut self, more: usize) -> bool {
        if more == 0 {
            return true;
        }
        let mut held = self.shares.lock();
        let own = held.by_client.get(&self.client).copied().unwrap_or(0);
        if own.saturating_add(more) > self.shares.each || held.all.saturating_add(more) > self.shares.all {
            return false;
        }
        held.by_client.insert(self.client, own + more);
        held.all += more;
        self.amount += more;
        true
    }

    /// Gives all of it back.
    pub(crate) fn give_back(&mut self) {
        let amount = std::mem::take(&mut self.amount);
        if amount == 0 {
            return;
        }
        let mut held = self.shares.lock();
        held.all -= amount;
        if let Some(own) = held.by_client.get_mut(&self.client) {
            *own -= amount;
            if *own == 0 {
                held.by_client.remove(&self.client);
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_of_a_client_and_that_of_all_are_bounded() {
        let shares = Shares::new(10, 25);
        let share = |number| shares.of([10, 0, 0, number].into());
        let mut greedy = share(1);
        assert!(greedy.take(4) && greedy.take(6) && !greedy.take(1), "its share is taken");
        assert!(!greedy.another().take(1), "for another purpose, too");
        let mut other = share(2);
        assert!(other.take(10));
        assert!(!share(3).take(6) && share(3).take(5), "all is taken");
        drop(greedy);
        assert!(share(3).take(10));
        other.give_back();
        assert!(shares.is_unused(), "a client that holds nothing is forgotten");
    }
}
