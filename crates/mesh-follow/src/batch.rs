//! Applies frames to the copy, and moves the place behind them, in one transaction.
//!
//! Guarantees:
//! - The effects of frames and the place behind them commit together, or neither does (INV-17).
//! - A holder whose place is out of date changes nothing.

use std::collections::HashSet;
use std::time::Duration;

use mesh_proto::mesh::events::v1::SubscribeResponse;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;
use mesh_store::{Store, Transaction};
use tokio::time::Instant;

use super::failure::Failure;
use super::follow::{Apply, Applying, Known};
use super::parked;
use super::place::{Place, Turn};

/// The time after which a transaction commits what it has applied: others may wait for the one writer.
const LONGEST: Duration = Duration::from_millis(50);

/// What is applied to: the copy, and the parked keys at its place.
pub(super) struct Target<'a> {
    pub(super) store: &'a Store,
    pub(super) source: &'static str,
    pub(super) copy: &'a dyn Apply,
    /// Later events of these keys are parked, too.
    pub(super) parked: &'a HashSet<String>,
}

/// What was applied.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) place: Place,
    /// The number of frames, from the first one.
    pub(super) frames: usize,
    pub(super) events: u64,
    /// The events of types that this program does not know.
    pub(super) unknown: u64,
    /// The number of rebuilds that began.
    pub(super) resets: u64,
}

/// Applies frames behind a place: all of them, or as many as fit into a transaction, and one at least.
pub(super) async fn apply(
    target: &Target<'_>,
    place: &Place,
    frames: &[SubscribeResponse],
) -> Result<Applied, Failure> {
    let mut tx = target.store.begin().await?;
    let until = Instant::now() + LONGEST;
    let mut applied = Applied { place: place.clone(), frames: 0, events: 0, unknown: 0, resets: 0 };
    for response in frames {
        match applied.place.turn_of(response) {
            Turn::Next => applied.apply(target, &mut tx, response).await?,
            Turn::Again => {}
            Turn::OutOfOrder if applied.frames == 0 => return Err(Failure::OutOfOrder),
            Turn::OutOfOrder => break,
        }
        applied.frames += 1;
        if Instant::now() >= until {
            break;
        }
    }
    if !place.advance(&mut tx, target.source, &applied.place).await? {
        return Err(Failure::Moved);
    }
    // A hook or a constraint of the follower may fail here.
    tx.commit().await.map_err(|error| Failure::of(&error))?;
    Ok(applied)
}

impl Applied {
    async fn apply(
        &mut self,
        target: &Target<'_>,
        tx: &mut Transaction,
        response: &SubscribeResponse,
    ) -> Result<(), Failure> {
        let Target { source, copy, .. } = target;
        match &response.frame {
            Some(Frame::Event(event) | Frame::Snapshot(event)) => {
                // A rebuild that began in this transaction has forgotten all parked events.
                if self.resets == 0 && target.parked.contains(&event.key) {
                    parked::park(tx, source, event, "").await?;
                } else {
                    let known = copy.apply(&mut Applying::new(tx, self.place.generation), event).await?;
                    // A follower that ignores the error of a statement.
                    tx.check().await.map_err(|error| Failure::of(&error))?;
                    match known {
                        Known::Yes => self.events += 1,
                        Known::No => self.unknown += 1,
                    }
                }
            }
            Some(Frame::Reset(_)) => {
                parked::clear(tx, source).await?;
                self.resets += 1;
            }
            Some(Frame::CaughtUp(_)) if self.place.is_building() => {
                copy.sweep(&mut Applying::new(tx, self.place.generation)).await?;
            }
            Some(Frame::CaughtUp(_) | Frame::Heartbeat(_)) | None => {}
        }
        self.place.pass(response);
        Ok(())
    }
}
