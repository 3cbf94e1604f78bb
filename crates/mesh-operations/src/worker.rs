//! Claims operations for the workers of a service.
//!
//! A worker of one kind waits for a notification or the next poll, claims as many operations as it has free permits,
//! and runs each in a task of its own, see `runner`.

use std::sync::Arc;
use std::time::Duration;

use mesh_feed::notifier::Key;
use mesh_proto::mesh::operations::v1::{Change, Phase, State};
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::Tasks;
use mesh_store::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::clock::micros;
use super::kind::Kind;
use super::operations::Operations;
use super::outcome::Exhausted;
use super::records::Records;
use super::runner::Runner;
use super::{changes, clean_up, clean_ups, clock, housekeeping, leases, outcome, steps};

/// The interval at which a worker polls for work without a notification: retries, and work under an expired lease.
const POLL: Duration = Duration::from_millis(500);

/// The workers of one service.
pub struct Workers {
    operations: Operations,
    kinds: Vec<Kind>,
}

impl Workers {
    /// The workers of `kinds`. They run after [`start`](Self::start).
    pub fn new(operations: Operations, kinds: Vec<Kind>) -> Self {
        Self { operations, kinds }
    }

    /// Runs the workers in `tasks`, until `draining` is cancelled.
    ///
    /// # Errors
    ///
    /// As for any transaction. No worker runs then.
    pub async fn start(self, draining: &CancellationToken, tasks: &Tasks, metrics: &Metrics) -> Result<(), Error> {
        let Records { service, store, .. } = &self.operations.records;
        if store.dialect().is_alone() {
            // An earlier run of this process held all leases, so they are over.
            let mut tx = store.begin().await?;
            leases::release_all(&mut tx).await?;
            clean_ups::release_all(&mut tx).await?;
            tx.commit().await?;
        }
        for kind in &self.kinds {
            leases::mend_times(&self.operations.records, kind.name).await?;
        }
        // The nonce distinguishes this run of the process from earlier ones.
        let id = format!("{service}-{}", uuid::Uuid::new_v4());
        for kind in self.kinds {
            let (operations, metrics, draining) = (self.operations.clone(), metrics.clone(), draining.clone());
            let runner = Runner { operations, kind, metrics, draining };
            let runner = Arc::new(runner);
            if !runner.kind.is_saga {
                tasks.run(clean_up::clean_up(Arc::clone(&runner)));
            }
            if let Some(schedule) = runner.kind.schedule {
                tasks.run(housekeeping::start_due(Arc::clone(&runner), schedule));
            }
            tasks.run(Arc::clone(&runner).keep_house());
            tasks.run(Worker { runner, id: id.clone(), tasks: tasks.clone() }.claim_and_run());
        }
        Ok(())
    }
}

/// The worker of one kind.
struct Worker {
    runner: Arc<Runner>,
    id: String,
    tasks: Tasks,
}

impl Worker {
    async fn claim_and_run(self) {
        let Runner { kind, draining, .. } = &*self.runner;
        let permits = Arc::new(Semaphore::new(kind.concurrency));
        let records = self.records();
        let mut listener = records.notifier.listen(Key::Work(records.service, kind.name.to_owned()));
        // A claim takes the one writer of an embedded database. Without a notification, a read comes first.
        let mut notified = true;
        let mut failing = false;
        while !draining.is_cancelled() {
            let Some(Ok(permit)) = draining.run_until_cancelled(permits.clone().acquire_owned()).await else {
                break;
            };
            listener.reset();
            let claimed = if notified || self.has_work().await {
                let free = std::iter::from_fn(|| permits.clone().try_acquire_owned().ok());
                self.claim(std::iter::once(permit).chain(free).collect()).await
            } else {
                Ok(0)
            };
            if claimed.is_ok() && std::mem::take(&mut failing) {
                tracing::info!(kind = kind.name, "work is claimed again");
            }
            match claimed {
                Ok(0) => {
                    // Jitter, so that the workers of a database do not poll at the same moment.
                    let pause = timeout(POLL.mul_f64(0.5 + fastrand::f64()), listener.notified());
                    notified = matches!(draining.run_until_cancelled(pause).await, Some(Ok(())));
                }
                Ok(_) => notified = true,
                Err(error) => {
                    // One warning an outage, not one a poll.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(kind = kind.name, %error, "cannot claim work; every poll retries until it works");
                    }
                    draining.run_until_cancelled(sleep(POLL)).await;
                }
            }
        }
    }

    fn records(&self) -> &Records {
        &self.runner.operations.records
    }

    async fn has_work(&self) -> bool {
        // If the read fails, the claim reports the failure.
        leases::is_claimable(&self.records().store, self.runner.kind.name).await.unwrap_or(true)
    }

    /// Claims the oldest operations, at most one a permit, and runs them. Returns the number of claimed operations.
    async fn claim(&self, permits: Vec<OwnedSemaphorePermit>) -> Result<usize, Error> {
        let Records { service, store, .. } = self.records();
        let mut tx = store.begin().await?;
        let now = clock::now(&mut *tx, store.dialect()).await?;
        let rows = leases::claimable(&mut tx, self.runner.kind.name, now, permits.len()).await?;
        // During a drain, the operations stay for the next process.
        if rows.is_empty() || self.runner.draining.is_cancelled() {
            return Ok(0);
        }
        let (mut changed, mut attempts) = (changes::Changed::new(service), Vec::new());
        let claimed = rows.len();
        for mut row in rows {
            let exhausted = outcome::end_exhausted(&mut row, self.runner.kind.attempts, now);
            let runs = matches!(exhausted, Exhausted::No | Exhausted::Undoes);
            if runs {
                if self.runner.kind.is_saga && !row.is_saga() {
                    // It was started when the kind was other work.
                    (row.phase, row.phase_since) = (Phase::Forward, now);
                }
                row.state = State::Running;
                row.attempt += 1;
                row.fence += 1;
                row.worker.clone_from(&self.id);
                row.lease_until = now + micros(leases::LEASE);
            }
            changed.record(&mut row, Change::State, now);
            if runs {
                attempts.push(row);
            } else if exhausted == Exhausted::Stuck {
                self.runner.report_stuck(&row);
            }
        }
        let ids: Vec<_> = attempts.iter().map(|row| row.id).collect();
        let mut inputs = steps::inputs(&mut tx, &ids).await?;
        self.records().notify_followers(&mut tx, &changed.rows());
        changes::save(&mut tx, changed).await?;
        tx.commit().await?;
        for (row, permit) in attempts.into_iter().zip(permits) {
            let input = inputs.remove(&row.id).unwrap_or_default();
            self.tasks.run(Arc::clone(&self.runner).run(row, input, permit));
        }
        Ok(claimed)
    }
}
