//! Applies frames at the place of a follower: in batches, or one by one while one of them may be poison.
//!
//! Guarantees:
//! - The attempt at an event that goes alone is written before it begins, so an event that ends the process is parked,
//!   too.
//! - A parked event holds back the later ones of its key, and no others.

use std::collections::HashSet;

use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_proto::mesh::events::v1::{Event, SubscribeResponse};
use mesh_store::Error;

use super::batch::{self, Applied, Target};
use super::failure::Failure;
use super::follower::Follower;
use super::parked::{self, MOST_PARKED};
use super::place::{Place, Turn};
use super::row::Row;
use super::stream::BATCH;

/// The attempts at an event that goes alone.
const ATTEMPTS: i64 = 3;

/// Applies frames at a place.
pub(super) struct Applier<'a> {
    follower: &'a Follower,
    pub(super) place: Place,
    /// The keys with parked events. Only the holder adds to them; whatever removes one changes the fence.
    pub(super) parked: HashSet<String>,
    /// The number of frames that go one by one: one of them may be poison.
    suspects: usize,
    /// Whether an attempt at the next event has been written and has not failed.
    begun: bool,
}

impl<'a> Applier<'a> {
    /// Begins where the row was when the lease was taken.
    pub(super) async fn new(follower: &'a Follower, row: Row) -> Result<Self, Error> {
        let parked = parked::keys(&follower.store, follower.source).await?;
        // The last holder ended without a release: an event may have ended its process.
        let suspects = if row.holder.is_empty() { 0 } else { BATCH };
        Ok(Self { follower, place: row.place, parked, suspects, begun: false })
    }

    /// Whether so much is parked that nothing more is applied.
    pub(super) fn is_stopped(&self) -> bool {
        self.parked.len() > MOST_PARKED
    }

    /// Takes over the place as it was read; true if a stream has to begin there.
    pub(super) fn put(&mut self, place: Place, parked: HashSet<String>) -> bool {
        let moved = place.cursor != self.place.cursor;
        self.begun &= !moved;
        (self.place, self.parked) = (place, parked);
        moved
    }

    /// Applies the first frames, one or more of them.
    pub(super) async fn apply(&mut self, frames: &[SubscribeResponse]) -> Result<Applied, Failure> {
        let applied = match frames {
            [first, ..] if self.suspects > 0 => self.apply_one(first).await,
            frames => batch::apply(&self.target(), &self.place, frames).await,
        };
        match applied {
            Ok(applied) => {
                self.suspects = self.suspects.saturating_sub(applied.frames);
                self.begun = false;
                self.place = applied.place.clone();
                if applied.resets > 0 {
                    self.parked.clear();
                }
                Ok(applied)
            }
            Err(failure @ Failure::Poison(_)) => {
                self.suspects = self.suspects.max(frames.len());
                Err(failure)
            }
            Err(failure) => Err(failure),
        }
    }

    /// Applies a frame alone; parks its event after the last attempt.
    async fn apply_one(&mut self, frame: &SubscribeResponse) -> Result<Applied, Failure> {
        let suspect = event_of(frame).filter(|event| !self.parked.contains(&event.key));
        let suspect = suspect.filter(|_| self.place.turn_of(frame) == Turn::Next);
        let Some(event) = suspect else {
            return match batch::apply(&self.target(), &self.place, std::slice::from_ref(frame)).await {
                // There is no key to park.
                Err(Failure::Poison(error)) => Err(Failure::Passing(error)),
                applied => applied,
            };
        };
        if !self.begun {
            if self.place.attempt >= ATTEMPTS {
                return self.park(frame, event, "the process ended in each attempt").await;
            }
            let Follower { store, source, .. } = self.follower;
            if !self.place.begin_attempt(store, source).await? {
                return Err(Failure::Moved);
            }
            self.begun = true;
        }
        match batch::apply(&self.target(), &self.place, std::slice::from_ref(frame)).await {
            Err(Failure::Poison(error)) if self.place.attempt >= ATTEMPTS => self.park(frame, event, &error).await,
            Err(failure @ Failure::Poison(_)) => {
                self.begun = false;
                Err(failure)
            }
            applied => applied,
        }
    }

    /// Parks an event, and moves the place behind it.
    async fn park(&mut self, frame: &SubscribeResponse, event: &Event, error: &str) -> Result<Applied, Failure> {
        let Follower { service, source, store, .. } = self.follower;
        let mut place = self.place.clone();
        place.pass(frame);
        let mut tx = store.begin().await?;
        parked::park(&mut tx, source, event, error).await?;
        if !self.place.advance(&mut tx, source, &place).await? {
            return Err(Failure::Moved);
        }
        tx.commit().await?;
        self.parked.insert(event.key.clone());
        let (key, position) = (&event.key, event.position);
        tracing::error!(
            service,
            source,
            key,
            position,
            error,
            "the event cannot be applied: it is parked, and the later events of its key behind it; mend the cause, then \
             `mesh events retry`"
        );
        Ok(Applied { place, frames: 1, events: 0, unknown: 0, resets: 0 })
    }

    fn target(&self) -> Target<'_> {
        let Follower { store, source, copy, .. } = self.follower;
        Target { store, source, copy: &**copy, parked: &self.parked }
    }
}

/// The event in a frame, or the row of a snapshot.
fn event_of(frame: &SubscribeResponse) -> Option<&Event> {
    match &frame.frame {
        Some(Frame::Event(event) | Frame::Snapshot(event)) => Some(event),
        _ => None,
    }
}
