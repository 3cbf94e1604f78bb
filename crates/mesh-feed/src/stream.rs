//! What each stream does, whatever it follows: send what there is, wait for more, send heartbeats, end in time.
//!
//! A stream pulls: it reads the next page when its client has taken the last one. A client that does not read costs one
//! page. The listener is reset before each read, so no change is missed in between.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::Stream;
use mesh_rpc::call::error::unavailable;
use mesh_store::Error;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::notifier::Listener;
use super::watchdog::Watchdog;

/// The age of a stream, 25 to 35 minutes: clients spread over instances again.
const AGE: Duration = Duration::from_secs(25 * 60);
const AGE_JITTER: Duration = Duration::from_secs(10 * 60);
/// The interval of heartbeats, unless the client asks for another within bounds.
const HEARTBEAT: Duration = Duration::from_secs(15);
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(5);
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(30);
/// An event that comes alone is sent at once; of those that follow closely, several are sent together.
const BETWEEN_READS: Duration = Duration::from_millis(5);

/// What a stream follows.
pub trait Follow: Send + 'static {
    /// What it sends.
    type Frame: Send + 'static;

    /// Reads on: what there is to send, and how to go on behind it.
    fn read(&mut self) -> impl Future<Output = Result<(Vec<Self::Frame>, Then), Status>> + Send;

    /// A frame that says that the stream lives.
    fn heartbeat(&self) -> Self::Frame;
}

/// How a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// There may be more: read again.
    Read,
    /// This was all: wait for a notification.
    Wait,
    /// Nothing comes any more.
    End,
}

/// One stream.
struct Follower<F: Follow> {
    follow: F,
    listener: Listener,
    heartbeat: Duration,
    until: Instant,
    last_read: Instant,
    /// When it last sent something.
    last_frame: Instant,
    ahead: VecDeque<F::Frame>,
    then: Then,
}

/// Begins to follow: `begin` is sent first.
pub fn stream<F: Follow>(
    follow: F,
    begin: Vec<F::Frame>,
    listener: Listener,
    heartbeat: Option<Duration>,
    watchdog: &Watchdog,
) -> impl Stream<Item = Result<F::Frame, Status>> + Send + use<F> {
    let heartbeat = heartbeat.unwrap_or(HEARTBEAT).clamp(SHORTEST_HEARTBEAT, LONGEST_HEARTBEAT);
    let now = Instant::now();
    let follower = Follower {
        follow,
        listener,
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
    // A client that reads asks again at the next heartbeat at the latest.
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
                _ if self.until <= now => return Some(Err(too_old())),
                // Also while it reads rows that its client does not want.
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
                    () = self.listener.notified() => {
                        sleep_until(self.last_read + BETWEEN_READS).await;
                        self.then = Then::Read;
                    }
                    () = sleep_until(beat.min(self.until)) => {}
                },
            }
        }
    }

    async fn read(&mut self) -> Result<(), Status> {
        self.listener.reset();
        self.last_read = Instant::now();
        let (frames, then) = self.follow.read().await.inspect_err(|status| {
            // A status in the trailers of a stream has lost its cause, so it is logged here.
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

/// Finishes a query whether or not its stream is polled meanwhile. A client that does not read stops its stream wherever
/// it stands; in the middle of a query, the stream would hold one of the few connections.
///
/// # Errors
///
/// As for the query.
pub async fn finish<T: Send + 'static>(
    query: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let task = AbortOnDropHandle::new(tokio::spawn(query));
    task.await.unwrap_or(Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
}
