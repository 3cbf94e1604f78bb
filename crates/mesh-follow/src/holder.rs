//! Follows a source under a lease: reads batches, applies them, and keeps the lease.

use std::pin::pin;
use std::time::Duration;

use mesh_client::resume::pause;
use mesh_proto::mesh::events::v1::SubscribeResponse;
use mesh_rpc::call::error::STREAM_DRAINING;
use mesh_rpc::call::peer::reason;
use mesh_runtime::Backoff;
use mesh_store::Error;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Status;

use super::applier::Applier;
use super::batch::Applied;
use super::failure::Failure;
use super::follower::Follower;
use super::parked;
use super::row::{self, Row};
use super::stream::Stream;

/// The interval at which an idle holder renews its lease, and finds out that its place was changed.
const KEEP: Duration = Duration::from_secs(2);
/// The longest time in which frames are applied and the lease is kept.
const LONGEST_SWEEP: Duration = Duration::from_secs(60);
/// The pause after frames that could not be applied.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(3));

/// The holder of a lease.
pub(super) struct Holder<'a> {
    follower: &'a Follower,
    /// The name under which it holds the lease.
    name: &'a str,
    applier: Applier<'a>,
    /// Failures since the last frames that were applied.
    failures: u32,
    /// When it last kept the lease while it waited.
    kept: Instant,
}

/// Whether a stream ended in order, and may be resumed at once.
fn is_drained(status: &Status) -> bool {
    reason(status).is_some_and(|reason| reason == STREAM_DRAINING)
}

/// Why a stream is not read on.
enum Stop {
    /// Another holder has the lease.
    Lost,
    /// The place is another one: a new stream begins there.
    Moved,
    /// The stream failed.
    Broken(Status),
    /// Too much is parked.
    TooManyParked,
}

impl<'a> Holder<'a> {
    /// Begins where the row was when the lease was taken.
    pub(super) async fn new(follower: &'a Follower, name: &'a str, row: Row) -> Result<Self, Error> {
        let applier = Applier::new(follower, row).await?;
        follower.seen.begin(&applier.place, applier.parked.len());
        Ok(Self { follower, name, applier, failures: 0, kept: Instant::now() })
    }

    /// Follows the source until the lease is lost.
    pub(super) async fn follow(&mut self) {
        loop {
            let stopped = match self.read_stream().await {
                Stop::Broken(status) => {
                    // Streams end with an age, and with their process: that is no failure.
                    if !is_drained(&status) {
                        self.fail(status.message());
                    }
                    let pause = pause(&status, self.failures);
                    self.rest(pause).await.err()
                }
                Stop::TooManyParked => self.wait_for_operator().await,
                stop => Some(stop),
            };
            if let Some(Stop::Lost) = stopped {
                return;
            }
        }
    }

    /// Waits until the place is changed: so much is parked that the program is at fault.
    async fn wait_for_operator(&mut self) -> Option<Stop> {
        let Follower { service, source, seen, .. } = self.follower;
        let error = "more than 100 keys have parked events: mend the program, then retry a key or rebuild the copy";
        tracing::error!(service, source, "the follower has stopped: {error}");
        seen.fail(error);
        let mut stopped = Ok(());
        while stopped.is_ok() && self.applier.is_stopped() {
            stopped = self.rest(KEEP).await;
        }
        seen.fail("");
        if !matches!(stopped, Err(Stop::Lost)) {
            tracing::info!(service, source, "the follower goes on");
        }
        stopped.err()
    }

    /// Reads and applies one stream, until it is of no use any more.
    async fn read_stream(&mut self) -> Stop {
        if self.applier.is_stopped() {
            return Stop::TooManyParked;
        }
        let Follower { channel, source, seen, .. } = self.follower;
        let open = Stream::open(channel.clone(), source, self.applier.place.cursor.clone(), seen.clone());
        let mut stream = match self.wait_for(open).await {
            Ok(stream) => stream,
            Err(stop) => return stop,
        };
        loop {
            let applied = match self.wait_for(stream.batch()).await {
                Ok(frames) => self.apply(&frames).await,
                Err(stop) => return stop,
            };
            if let Err(stop) = applied {
                return stop;
            }
        }
    }

    /// Waits for the source, and keeps the lease meanwhile.
    async fn wait_for<T>(&mut self, source: impl Future<Output = Result<T, Status>>) -> Result<T, Stop> {
        let mut source = pin!(source);
        loop {
            tokio::select! {
                answer = &mut source => return answer.map_err(Stop::Broken),
                () = sleep_until(self.kept + KEEP) => self.keep().await?,
            }
        }
    }

    /// Applies frames, with retries until all of them are applied.
    async fn apply(&mut self, mut frames: &[SubscribeResponse]) -> Result<(), Stop> {
        self.follower.seen.receive(frames);
        while !frames.is_empty() {
            let was_building = self.applier.place.is_building();
            match self.apply_some(frames).await {
                Ok(applied) => {
                    frames = frames.get(applied.frames..).unwrap_or_default();
                    self.pass(&applied, was_building);
                    if self.applier.is_stopped() {
                        return Err(Stop::TooManyParked);
                    }
                }
                Err(Failure::Passing(error) | Failure::Poison(error)) => {
                    self.fail(&error);
                    self.rest(BACKOFF.pause(self.failures)).await?;
                    self.reload().await?;
                }
                Err(Failure::Moved) => self.reload().await?,
                Err(Failure::OutOfOrder) => {
                    return Err(Stop::Broken(Status::data_loss("the source sent a frame out of order")));
                }
            }
        }
        Ok(())
    }

    /// Applies the first frames, and keeps the lease meanwhile: a sweep may take longer. A follower that hangs loses
    /// it.
    async fn apply_some(&mut self, frames: &[SubscribeResponse]) -> Result<Applied, Failure> {
        let Follower { store, source, seen, .. } = self.follower;
        let fence = self.applier.place.fence;
        let keeping = async {
            let until = Instant::now() + LONGEST_SWEEP;
            while Instant::now() < until {
                sleep(KEEP).await;
                // A lease that is lost is noticed when the place moves.
                let _ = row::keep(store, source, fence, &seen.sight().unwrap_or_default()).await;
            }
            std::future::pending().await
        };
        tokio::select! {
            applied = self.applier.apply(frames) => applied,
            never = keeping => never,
        }
    }

    /// Reports frames that were applied.
    fn pass(&mut self, applied: &Applied, was_building: bool) {
        let Follower { service, source, seen, copied, metrics, .. } = self.follower;
        metrics.applied.inc_by(applied.events);
        metrics.unknown.inc_by(applied.unknown);
        metrics.resets.inc_by(applied.resets);
        if applied.resets > 0 {
            tracing::warn!(service, source, "the source does not continue where its follower is: the copy is rebuilt");
        }
        if was_building && !applied.place.is_building() {
            tracing::info!(service, source, generation = applied.place.generation, "the copy is complete");
        }
        copied.move_to(&applied.place);
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(service, source, "events are applied again");
            seen.fail("");
        }
        seen.apply(&applied.place, self.applier.parked.len());
    }

    /// Notes a failure. One warning an outage, not one an attempt.
    fn fail(&mut self, error: &str) {
        let Follower { service, source, seen, .. } = self.follower;
        self.failures += 1;
        if self.failures == 1 {
            tracing::warn!(service, source, error, "no events are applied; the follower retries until it works");
        }
        seen.fail(error);
    }

    /// Pauses, and keeps the lease meanwhile.
    async fn rest(&mut self, pause: Duration) -> Result<(), Stop> {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            sleep(left.min(KEEP)).await;
            self.keep().await?;
        }
        Ok(())
    }

    /// Keeps the lease. Fails if a stream has to begin elsewhere.
    async fn keep(&mut self) -> Result<(), Stop> {
        let Follower { store, source, seen, .. } = self.follower;
        let sight = seen.sight().unwrap_or_default();
        self.kept = Instant::now();
        match row::keep(store, source, self.applier.place.fence, &sight).await {
            Ok(false) => self.reload().await,
            // The database is away: the next batch or the next round finds out what is true.
            Ok(true) | Err(_) => Ok(()),
        }
    }

    /// Reads the place, after a failure that may have changed it. Fails if a stream has to begin elsewhere.
    async fn reload(&mut self) -> Result<(), Stop> {
        let Follower { store, source, seen, copied, .. } = self.follower;
        let known = async {
            let row = row::read(store.reader(), store.dialect(), source).await?;
            Ok::<_, Error>((row, parked::keys(store, source).await?))
        };
        // The database is away: the retry finds out.
        let Ok((row, parked)) = known.await else { return Ok(()) };
        if row.holder != self.name {
            return Err(Stop::Lost);
        }
        let moved = self.applier.put(row.place, parked);
        seen.apply(&self.applier.place, self.applier.parked.len());
        // The commit that moved the place may have reported a failure.
        copied.move_to(&self.applier.place);
        if moved { Err(Stop::Moved) } else { Ok(()) }
    }
}
