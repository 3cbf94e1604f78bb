//! Repairs by operators: applies or deletes the parked events of a key, and begins a rebuild.
//!
//! Any process with the database may do it. Each repair changes the fence, so that the holder takes notice.

use mesh_proto::mesh::events::v1::RetryParkedEventsResponse;
use mesh_store::Error;

use super::failure::Failure;
use super::follow::Applying;
use super::follower::Follower;
use super::{parked, row};

/// The most events that one call applies.
const MOST: i32 = 500;

/// Applies the parked events of a key in order, until one fails. Each commits by itself. `None` if there are none.
pub(super) async fn retry(follower: &Follower, key: &str) -> Result<Option<RetryParkedEventsResponse>, Error> {
    let mut done = RetryParkedEventsResponse::default();
    while done.applied < MOST {
        match retry_first(follower, key).await {
            Ok(true) => done.applied += 1,
            Ok(false) => break,
            Err(Failure::Passing(error) | Failure::Poison(error)) => {
                done.error = error;
                break;
            }
            Err(Failure::Moved | Failure::OutOfOrder) => break,
        }
    }
    done.parked = parked::count(&follower.store, follower.source, key).await?;
    if done.applied == 0 && done.parked == 0 {
        return Ok(None);
    }
    let Follower { service, source, .. } = follower;
    let (applied, left, error) = (done.applied, done.parked, &*done.error);
    tracing::info!(service, source, key, applied, left, error, "parked events retried");
    Ok(Some(done))
}

/// Applies the first parked event of a key; false if there is none.
async fn retry_first(follower: &Follower, key: &str) -> Result<bool, Failure> {
    let Follower { store, source, copy, .. } = follower;
    let mut tx = store.begin().await?;
    // Before the read: the holder parks no event of the key meanwhile.
    let generation = row::change_fence(&mut tx, source).await?;
    let Some(event) = parked::first(&mut tx, source, key).await? else { return Ok(false) };
    copy.apply(&mut Applying::new(&mut tx, generation), &event).await?;
    parked::delete(&mut tx, source, &event).await?;
    tx.commit().await?;
    Ok(true)
}

/// Deletes the parked events of a key, and returns their number.
pub(super) async fn skip(follower: &Follower, key: &str) -> Result<i32, Error> {
    let Follower { service, source, store, .. } = follower;
    let mut tx = store.begin().await?;
    row::change_fence(&mut tx, source).await?;
    let skipped = parked::skip(&mut tx, source, key).await?;
    if skipped > 0 {
        tx.commit().await?;
        tracing::warn!(service, source, key, skipped, "parked events are skipped: the copy lacks them");
    }
    Ok(skipped)
}

/// Begins a rebuild, and returns its generation.
pub(super) async fn rebuild(follower: &Follower) -> Result<i64, Error> {
    let Follower { service, source, store, .. } = follower;
    let mut tx = store.begin().await?;
    let generation = row::rebuild(&mut tx, source).await?;
    parked::clear(&mut tx, source).await?;
    tx.commit().await?;
    tracing::warn!(service, source, generation, "an operator has the copy rebuilt");
    Ok(generation)
}
