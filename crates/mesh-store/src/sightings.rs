//! The errors of one database that its readiness has to know of: those that show a condition that lasts, or damage.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::condition::{Condition, is_corrupt};

/// What the statements of a store have shown. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Sightings(Arc<Seen>);

#[derive(Debug, Default)]
struct Seen {
    count: AtomicU64,
    damage: AtomicBool,
}

impl Sightings {
    /// Counts the error of a statement or of a connection, if it shows a condition that lasts, or damage.
    pub(super) fn note(&self, error: &sqlx::Error) {
        let damage = is_corrupt(error);
        let lasts = match Condition::of(error) {
            Some(Condition::Full | Condition::ReadOnly | Condition::Moved) => true,
            // A file that cannot be read or written. A server that is away shows at the next read.
            Some(Condition::Away) => matches!(error, sqlx::Error::Database(_)),
            Some(Condition::NoFreeConnection | Condition::Busy) => false,
            None => damage,
        };
        if damage {
            self.0.damage.store(true, Ordering::Relaxed);
        }
        if lasts {
            self.0.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// [`note`](Self::note) for the error of a result.
    pub(super) fn of<T>(&self, result: sqlx::Result<T>) -> sqlx::Result<T> {
        result.inspect_err(|error| self.note(error))
    }

    /// How many such errors there were.
    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Whether an error showed damage. A statement elsewhere that works does not end it.
    pub(super) fn show_damage(&self) -> bool {
        self.0.damage.load(Ordering::Relaxed)
    }
}
