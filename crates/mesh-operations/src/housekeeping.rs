//! Starts work again and again: the housekeeping of a service.
//!
//! Each run is an operation of the service itself. The next one is due at the interval after the start of the last one.
//! Its request id follows from the run before it, so of all replicas that find it due, one starts it.
//!
//! Guarantees:
//! - A run starts after the end of the run before it, however long that one takes.
//! - Runs that were due while no process ran are one run. A restart makes no run due.
//! - A run has the lease, the attempts and the deadline of its kind. The run after a failed one is due as usual.
//!
//! Does not: start at times of the day, or keep an operator from retrying a failed run beside the next one.

use std::sync::Arc;
use std::time::Duration;

use mesh_proto::mesh::operations::v1::Phase;
use mesh_rpc::call::{Caller, Trace};
use mesh_store::{Error, request_hash};
use tokio::time::sleep;
use uuid::Uuid;

use super::changes::New;
use super::records::Records;
use super::runner::Runner;
use super::schedule::Schedule;
use super::{clock, storage};

/// The longest time between two looks: the wall clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(10);
/// The time between two looks while the last run goes on, or the database does not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Starts the runs of a kind that has a schedule, until the drain.
pub(super) async fn start_due(runner: Arc<Runner>, schedule: Schedule) {
    let mut failing = false;
    loop {
        let wait = match start_if_due(&runner, schedule).await {
            Ok(left) => {
                failing = false;
                left.min(LOOK)
            }
            Err(error) => {
                // One warning an outage, not one a look.
                if !std::mem::replace(&mut failing, true) {
                    let kind = runner.kind.name;
                    tracing::warn!(kind, %error, "cannot start work that is due; it starts once the database answers");
                }
                RETRY
            }
        };
        if runner.draining.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Starts a run if one is due. Returns the time until the next look.
async fn start_if_due(runner: &Runner, schedule: Schedule) -> Result<Duration, Error> {
    let Records { service, store, .. } = &runner.operations.records;
    let (kind, owner) = (runner.kind.name, Caller::service(service));
    let last = storage::last_of_kind(store.reader(), &owner, kind).await?;
    let now = clock::now(store.reader(), store.dialect()).await?;
    if let Some(last) = &last {
        if !last.is_done() {
            return Ok(RETRY);
        }
        if let Some(left) = schedule.left(last.created, now) {
            return Ok(left);
        }
    }
    let request_id = Uuid::new_v5(&last.map_or(Uuid::nil(), |last| last.id), b"next");
    let new = New {
        caller: owner,
        kind: kind.to_owned(),
        request_id,
        request_hash: request_hash(kind, request_id, &()),
        input: Vec::new(),
        deadline: schedule.deadline,
        phase: Phase::Unspecified,
        trace: Trace::begin(),
        cause: None,
    };
    runner.operations.start_or_find(new).await?;
    Ok(schedule.interval)
}
