//! The loop of each stream: read a page, send it, wait for more, send heartbeats, end at the maximum age.
//!
//! Guarantees:
//! - A stream pulls: it reads the next page after its client has taken the last one. A client that does not read costs
//!   one page (INV-13).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::Stream;
use mesh_rpc::call::error::draining;
use mesh_store::Error;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use super::watchdog::Watchdog;

/// The maximum age of a stream, 25 to 35 minutes. Clients then spread over the instances again.
const AGE: Duration = Duration::from_secs(25 * 60);
const AGE_JITTER: Duration = Duration::from_secs(10 * 60);
/// The default interval of heartbeats, and the bounds of what a client may ask for.
const HEARTBEAT: Duration = Duration::from_secs(15);
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(5);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(30);

/// Whether a stream of this process ended because its database was unavailable, and none has read since.
static OUTAGE: AtomicBool = AtomicBool::new(false);

/// The source of the frames of a stream.
pub trait Follow: Send + 'static {
    /// The type of its frames.
    type Frame: Send + 'static;

    /// Reads the next frames, and returns the next step of the stream. An error ends the stream.
    fn read(&mut self) -> impl Future<Output = Result<(Vec<Self::Frame>, Then), Status>> + Send;

    /// Waits until there is more to read than the last read found.
    fn more(&mut self) -> impl Future<Output = ()> + Send;

    /// A heartbeat with the current cursor.
    fn heartbeat(&self) -> Self::Frame;
}

/// The next step of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// There may be more: read again.
    Read,
    /// There is no more: wait.
    Wait,
    /// The stream ends.
    End,
}

/// One stream.
struct Follower<F: Follow> {
    follow: F,
    heartbeat: Duration,
    until: Instant,
    /// The time of the last frame.
    last_frame: Instant,
    ahead: VecDeque<F::Frame>,
    then: Then,
}

/// Builds a stream, which sends the frames in `begin` first. `heartbeat` is kept within 5 s to 30 s; the default is 15
/// s. The stream ends with UNAVAILABLE, `STREAM_DRAINING`, at the age of 25 to 35 minutes. The watchdog ends it with
/// ABORTED, `SLOW_CONSUMER`, if the client does not read.
pub fn stream<F: Follow>(
    follow: F,
    begin: Vec<F::Frame>,
    heartbeat: Option<Duration>,
    watchdog: &Watchdog,
) -> impl Stream<Item = Result<F::Frame, Status>> + Send + use<F> {
    let heartbeat = heartbeat.unwrap_or(HEARTBEAT).clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT);
    let now = Instant::now();
    let follower = Follower {
        follow,
        heartbeat,
        until: now + AGE + AGE_JITTER.mul_f64(fastrand::f64()),
        last_frame: now,
        ahead: begin.into(),
        then: Then::Read,
    };
    let frames = futures_util::stream::unfold(follower, |mut follower| async move {
        let frame = follower.next().await?;
        if frame.is_err() {
            follower.then = Then::End;
        }
        Some((frame, follower))
    });
    // A client that reads polls at the next heartbeat at the latest.
    watchdog.guard(frames, heartbeat)
}

impl<F: Follow> Follower<F> {
    async fn next(&mut self) -> Option<Result<F::Frame, Status>> {
        loop {
            if let Some(frame) = self.ahead.pop_front() {
                self.last_frame = Instant::now();
                return Some(Ok(frame));
            }
            let now = Instant::now();
            let beat = self.last_frame + self.heartbeat;
            match self.then {
                Then::End => return None,
                _ if self.until <= now => return Some(Err(max_age_reached())),
                // Also while it reads rows that its client has filtered out.
                _ if beat <= now => {
                    self.ahead.push_back(self.follow.heartbeat());
                    self.then = Then::Read;
                }
                Then::Read => {
                    if let Err(status) = self.read().await {
                        return Some(Err(status));
                    }
                }
                Then::Wait => tokio::select! {
                    () = self.follow.more() => self.then = Then::Read,
                    () = sleep_until(beat.min(self.until)) => {}
                },
            }
        }
    }

    async fn read(&mut self) -> Result<(), Status> {
        let (frames, then) = self.follow.read().await.inspect_err(log_end)?;
        OUTAGE.store(false, Ordering::Relaxed);
        self.ahead.extend(frames);
        self.then = then;
        Ok(())
    }
}

/// Logs why a stream ends: the status in its trailers has no cause. An outage ends all streams, and is logged once.
fn log_end(status: &Status) {
    let cause = std::error::Error::source(status).map(ToString::to_string).unwrap_or_default();
    if status.code() == Code::Unavailable && OUTAGE.swap(true, Ordering::Relaxed) {
        tracing::debug!(cause, "a stream ends: {}", status.message());
    } else {
        tracing::warn!(cause, "a stream ends: {}", status.message());
    }
}

fn max_age_reached() -> Status {
    draining("this stream has reached its maximum age; resume it by its cursor")
}

/// Runs a query to completion, even if its stream is not polled. A client that does not read stops its stream at any
/// point; within a query the stream would hold one of the few connections to the database (INV-13).
///
/// # Errors
///
/// As for the query; [`Error::Unavailable`] if it panicked.
pub async fn finish<T: Send + 'static>(
    query: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let task = AbortOnDropHandle::new(tokio::spawn(query));
    task.await.unwrap_or_else(|_| Err(sqlx::Error::WorkerCrashed.into()))
}
