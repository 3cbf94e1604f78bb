//! How far a copy is, for the calls that wait for it.
//!
//! Guarantees:
//! - A copy that is being built has reached nothing: it may lack rows, or have some of another history.
//! - What is known of a build never goes back.

use std::sync::Arc;

use mesh_feed::cursor::LogCursor;
use tokio::sync::watch;
use uuid::Uuid;

use super::place::Place;

/// How far the copy of a source is, as this process knows. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reached(Arc<watch::Sender<Extent>>);

/// What is in a copy. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Extent {
    generation: i64,
    /// The position and the epoch of the last event; `None` while the copy is built.
    last: Option<(i64, Uuid)>,
}

impl Reached {
    /// As far as this place.
    pub(super) fn new(place: &Place) -> Self {
        Self(Arc::new(watch::Sender::new(Extent::of(place))))
    }

    /// The follower is at a place.
    pub(super) fn raise(&self, place: &Place) {
        let extent = Extent::of(place);
        self.0.send_if_modified(|known| {
            let later = extent > *known;
            if later {
                *known = extent;
            }
            later
        });
    }

    /// Waits until the copy is at a position of an epoch, or behind it.
    pub(super) async fn wait(&self, epoch: Uuid, position: i64) {
        // The sender is in `self`, so the wait does not fail.
        let _ = self.0.subscribe().wait_for(|extent| extent.has(epoch, position)).await;
    }
}

impl Extent {
    fn of(place: &Place) -> Self {
        let cursor = LogCursor::parse(&place.cursor).ok().flatten().filter(|_| !place.is_building());
        Self { generation: place.generation, last: cursor.map(|cursor| (cursor.position, cursor.epoch)) }
    }

    fn has(&self, epoch: Uuid, position: i64) -> bool {
        self.last.is_some_and(|(last, of)| of == epoch && last >= position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn place(generation: i64, whole: i64, epoch: Uuid, position: i64) -> Place {
        let cursor = LogCursor { epoch, position, told: 1, snapshot: None }.to_bytes();
        Place { cursor, position, generation, whole, attempt: 0, fence: 1 }
    }

    fn has(reached: &Reached, epoch: Uuid, position: i64) -> bool {
        reached.0.borrow().has(epoch, position)
    }

    #[test]
    fn reached_is_what_a_whole_copy_has_of_one_epoch() {
        let reached = Reached::new(&place(1, 0, EPOCH, 7));
        assert!(!has(&reached, EPOCH, 1), "the first build");
        reached.raise(&place(1, 1, EPOCH, 7));
        assert!(has(&reached, EPOCH, 7) && !has(&reached, EPOCH, 8) && !has(&reached, OTHER, 1));
        // A process that read the row earlier.
        reached.raise(&place(1, 1, EPOCH, 6));
        assert!(has(&reached, EPOCH, 7));

        reached.raise(&place(2, 1, OTHER, 3));
        assert!(!has(&reached, EPOCH, 1) && !has(&reached, OTHER, 1), "another build");
        reached.raise(&place(1, 1, EPOCH, 9));
        assert!(!has(&reached, EPOCH, 1), "of the build before");
        reached.raise(&place(2, 2, OTHER, 4));
        assert!(has(&reached, OTHER, 4) && !has(&reached, EPOCH, 4));
    }

    #[test]
    fn reached_is_nothing_by_a_cursor_of_another_form() {
        let reached = Reached::new(&Place { cursor: b"theirs".to_vec(), ..place(1, 1, EPOCH, 7) });
        assert!(!has(&reached, EPOCH, 1));
    }

    #[tokio::test]
    async fn reached_wakes_those_who_wait() {
        let reached = Reached::new(&place(1, 1, EPOCH, 1));
        let waiting = tokio::spawn({
            let reached = reached.clone();
            async move { reached.wait(EPOCH, 3).await }
        });
        for position in [2, 3] {
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            reached.raise(&place(1, 1, EPOCH, position));
        }
        waiting.await.unwrap();
    }
}
