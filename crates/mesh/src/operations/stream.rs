//! What every stream does, whatever it follows: say what there is, wait for more, say that it lives, end in time.
//!
//! A stream is a pull: it reads the next page when its client has taken the last one, so a client that does not read
//! costs one page and no more, and holds nothing that others need. It takes its wake-up before it reads, so nothing
//! slips through in between.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::Stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::patience::Patience;
use super::wake::Sleeper;
use crate::error::unavailable;
use crate::store::Error;

/// How long a stream lives, so that clients spread over instances again: 25 to 35 minutes.
const AGE: Duration = Duration::from_secs(25 * 60);
const AGE_JITTER: Duration = Duration::from_secs(10 * 60);
/// How often it says something, unless it is asked for something else within bounds.
const HEARTBEAT: Duration = Duration::from_secs(15);
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(5);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(30);
/// How much is read at once, and so ahead of a client.
pub(super) const PAGE: usize = 64;
/// An event that comes alone is told at once; of those that follow closely, several are told together.
const BETWEEN_READS: Duration = Duration::from_millis(5);

/// What a stream follows.
pub(super) trait Follow: Send + 'static {
    /// What it says.
    type Frame: Send + 'static;

    /// Reads on, and gives what there is to say and how to go on behind it.
    fn read(&mut self) -> impl Future<Output = Result<(Vec<Self::Frame>, Then), Status>> + Send;

    /// Says that there is nothing to say.
    fn heartbeat(&self) -> Self::Frame;
}

/// How a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// There may be more: read again.
    Read,
    /// This was all: wait for a wake-up.
    Wait,
    /// Nothing comes any more.
    End,
}

/// One stream.
struct Follower<F: Follow> {
    follow: F,
    sleeper: Sleeper,
    heartbeat: Duration,
    until: Instant,
    last_read: Instant,
    /// When it last said something.
    last_frame: Instant,
    ahead: VecDeque<F::Frame>,
    then: Then,
}

/// Begins to follow: `begin` is said first.
pub(super) fn stream<F: Follow>(
    follow: F,
    begin: Vec<F::Frame>,
    sleeper: Sleeper,
    heartbeat: Option<Duration>,
    patience: &Patience,
) -> impl Stream<Item = Result<F::Frame, Status>> + Send + use<F> {
    let heartbeat = heartbeat.unwrap_or(HEARTBEAT).clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT);
    let now = Instant::now();
    let follower = Follower {
        follow,
        sleeper,
        heartbeat,
        until: now + AGE + AGE_JITTER.mul_f64(fastrand::f64()),
        last_read: now,
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
    // Whoever takes what there is asks again at the next heartbeat at the latest.
    patience.with(frames, heartbeat)
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
                _ if self.until <= now => return Some(Err(too_old())),
                // Also if it has been reading what is not wanted.
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
                    () = self.sleeper.woken() => {
                        sleep_until(self.last_read + BETWEEN_READS).await;
                        self.then = Then::Read;
                    }
                    () = sleep_until(beat.min(self.until)) => {}
                },
            }
        }
    }

    async fn read(&mut self) -> Result<(), Status> {
        self.sleeper.look();
        self.last_read = Instant::now();
        let (frames, then) = self.follow.read().await.inspect_err(|status| {
            // Here, for a status in the trailers of a stream has lost its cause.
            let cause = std::error::Error::source(status).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(cause, "a stream ends: {}", status.message());
        })?;
        self.ahead.extend(frames);
        self.then = then;
        Ok(())
    }
}

fn too_old() -> Status {
    let message = "this stream has lived long enough; resume it by its cursor";
    unavailable("STREAM_DRAINING", message, Duration::from_millis(100))
}

/// Finishes a query whether or not this stream is polled meanwhile. A client that does not read stops its stream
/// wherever it stands; in the middle of a query, that would be with one of the few connections in its hands.
pub(super) async fn finish<T: Send + 'static>(
    query: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let task = AbortOnDropHandle::new(tokio::spawn(query));
    task.await.unwrap_or(Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
}
