//! Runs the clean-up of operations that ended without success.
//!
//! The transaction that ends an operation as FAILED or CANCELLED writes a row for its clean-up, whatever ended it: its
//! worker, a cancellation, its deadline, or the limit of its attempts. The end is visible at once; a cleaner of the
//! kind claims the row, runs [`Work::clean_up`](super::Work::clean_up), and deletes the row.
//!
//! Guarantees:
//! - The clean-up of an ended operation runs at least once, and again until it returns `Ok`. A success has none.
//! - A cleaner that dies loses its claim: at once on SQLite, where the next process starts anew, after 30 s on
//!   Postgres.
//! - A clean-up that fails delays no end. Its pause doubles from 1 s to 1 h.
//! - A clean-up that hangs is stopped after 20 s. Until then the cleaner of its kind in this process claims no further
//!   ones, and those that ran beside it count as open.
//! - Until it is done, the input and the steps of the operation are kept, even if the operation is deleted.
//!
//! See: docs/decisions/0029-clean-up-after-the-end.md

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use mesh_feed::notifier::Key;
use mesh_rpc::call::Context;
use mesh_rpc::call::error::exceeded;
use mesh_runtime::Backoff;
use mesh_store::Error;
use tokio::time::timeout;
use tonic::Status;
use tracing::Instrument as _;
use uuid::Uuid;

use super::ended::Ended;
use super::records::Records;
use super::runner::Runner;
use super::{clean_ups, clock, failure, steps, storage};

/// The longest run of a clean-up, well within the time for which its claim holds.
const LIMIT: Duration = Duration::from_secs(20);
/// The most clean-ups of one claim. They run at the same time.
const BATCH: i64 = 16;
/// The interval of polls without a notification: retries, and the ends that another process wrote.
const POLL: Duration = Duration::from_secs(2);
/// The pause before a failed clean-up is retried.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), clean_ups::LONGEST_PAUSE).jitter(0.5..1.0);

/// Cleans up after the operations of one kind, until the drain.
pub(super) async fn clean_up(runner: Arc<Runner>) {
    let records = &runner.operations.records;
    let mut listener = records.notifier.listen(Key::CleanUp(records.service, runner.kind.name.to_owned()));
    let mut failing = false;
    while !runner.draining.is_cancelled() {
        listener.reset();
        match clean_some(&runner).await {
            Ok(true) => continue,
            Ok(false) => failing = false,
            // One warning an outage, not one a poll.
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(kind = runner.kind.name, %error, "cannot clean up; every poll retries until it works");
            }
            Err(_) => {}
        }
        // Jitter, so that the cleaners of a database do not poll at the same moment.
        let pause = timeout(POLL.mul_f64(0.5 + fastrand::f64()), listener.notified());
        let _ = runner.draining.run_until_cancelled(pause).await;
    }
}

/// Runs one batch of clean-ups; false if none is due.
async fn clean_some(runner: &Arc<Runner>) -> Result<bool, Error> {
    let (Records { store, .. }, kind) = (&runner.operations.records, runner.kind.name);
    // A claim takes the one writer of an embedded database, so a read comes first.
    if !clean_ups::is_due(store, kind).await? {
        return Ok(false);
    }
    let mut tx = store.begin().await?;
    let now = clock::now(&mut *tx, store.dialect()).await?;
    let claimed = clean_ups::claim(&mut tx, kind, now, BATCH).await?;
    let ids: Vec<_> = claimed.iter().map(|(id, _)| *id).collect();
    let mut inputs = steps::inputs(&mut tx, &ids).await?;
    let causes = storage::causes(&mut tx, &ids).await?;
    tx.commit().await?;

    let runs = claimed.iter().map(|(id, _)| {
        let context = Context { cause: causes.get(id).copied(), ..Context::default() };
        context.scope(run(runner, *id, inputs.remove(id).unwrap_or_default()))
    });
    let results = join_all(runs.collect::<Vec<_>>()).await;

    let mut tx = store.begin().await?;
    let now = clock::now(&mut *tx, store.dialect()).await?;
    let mut done = Vec::new();
    for ((id, tries), result) in claimed.into_iter().zip(results) {
        match result {
            Some(Ok(())) => done.push(id),
            Some(Err(_)) => {
                let pause = BACKOFF.pause(u32::try_from(tries).unwrap_or(u32::MAX));
                clean_ups::retry_at(&mut tx, id, now + clock::micros(pause)).await?;
            }
            // The drain stopped it: the next cleaner may claim it at once.
            None => clean_ups::retry_at(&mut tx, id, 0).await?,
        }
    }
    clean_ups::finish(&mut tx, &done).await?;
    tx.commit().await?;
    Ok(true)
}

/// Runs one clean-up, and logs its failure; `None` if the drain stopped it.
async fn run(runner: &Runner, id: Uuid, input: Vec<u8>) -> Option<Result<(), Status>> {
    let ended = Arc::new(Ended::new(runner.operations.records.clone(), id));
    let operation = ended.name();
    let span = tracing::info_span!("clean up", operation, kind = runner.kind.name);
    let running = (runner.kind.clean_up)(ended, input).instrument(span);
    let running = timeout(LIMIT, AssertUnwindSafe(running).catch_unwind());
    let result = match runner.draining.run_until_cancelled(running).await? {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(failure::panicked()),
        Err(_) => Err(exceeded()),
    };
    if let Err(failure) = &result {
        let cause = std::error::Error::source(failure).map(ToString::to_string).unwrap_or_default();
        let kind = runner.kind.name;
        tracing::warn!(operation, kind, cause, "the clean-up failed and will be retried: {}", failure.message());
    }
    Some(result)
}
