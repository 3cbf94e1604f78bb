//! Waits for the lease on the place of a follower, and follows while it has it.
//!
//! Guarantees:
//! - Of the processes with one database, one follows. Another takes over 10 s after the last sign of it, and at once
//!   when it drains.
//! - A source that is away, or a follower that lags, leaves the service ready.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use mesh_store::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::follower::Follower;
use super::holder::Holder;
use super::row;

/// The interval at which a process without the lease asks for it, with jitter.
const POLL: Duration = Duration::from_secs(1);

impl Follower {
    /// Follows until `draining` is cancelled.
    pub async fn run(self: Arc<Self>, draining: CancellationToken) {
        // The nonce distinguishes this run of the process from earlier ones.
        let name = format!("{}-{}", self.service, Uuid::new_v4());
        tokio::select! {
            never = self.follow(&name) => match never {},
            never = self.seen.measure(&self.metrics) => match never {},
            () = draining.cancelled() => {}
        }
        // If it fails, the next holder waits for the end of the lease.
        let _ = row::release(&self.store, self.source, &name).await;
        self.seen.end();
        self.metrics.remove();
    }

    async fn follow(&self, name: &str) -> Infallible {
        let Self { service, source, .. } = *self;
        let mut failing = false;
        loop {
            match self.hold(name).await {
                // Jitter, so that the processes of a database do not poll at the same moment.
                Ok(()) => failing = false,
                // One warning an outage, not one a poll.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(service, source, %error, "cannot follow; every poll retries until it works");
                }
                Err(_) => {}
            }
            sleep(POLL.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    /// Takes the lease if it is free, and follows until it is lost.
    async fn hold(&self, name: &str) -> Result<(), Error> {
        let Self { service, source, .. } = *self;
        let (row, taken) = row::take(&self.store, source, name).await?;
        self.copied.move_to(&row.place);
        if taken {
            let mut holder = Holder::new(self, name, row).await?;
            holder.follow().await;
            self.seen.end();
            tracing::warn!(service, source, "another process follows the source now");
        }
        Ok(())
    }
}
