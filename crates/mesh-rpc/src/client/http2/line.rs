//! What the calls of a connection and its work tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use h2::{Ping, PingPong, Reason};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How long a peer may be silent until it is asked with a ping, and until the answer. The ping detects an endpoint
/// that vanished without closing.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a call waits for a stream until it looks again.
const LOOK: Duration = Duration::from_millis(100);

/// Why a response, or the rest of it, will not arrive.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection takes no request any more. Nothing was sent.
    #[error("the connection is closed")]
    Closed(#[source] h2::Error),
    /// The connection or the stream ended, or the request is none that HTTP/2 can send.
    #[error("the connection or the stream ended")]
    Http2(#[source] h2::Error),
    /// The peer ended the stream as if the response were complete.
    #[error("the peer ended the response before its end")]
    Cut,
    /// The peer has vanished.
    #[error("the peer has not answered a ping for {KEEP_ALIVE:?}")]
    Silent,
}

/// What calls and their connection tell each other.
#[derive(Default)]
pub(super) struct Line {
    /// The calls in flight, and those that wait for a stream.
    calls: AtomicUsize,
    /// The streams of the calls in flight, and how many the peer allows.
    streams: AtomicUsize,
    allowed: AtomicUsize,
    /// Notified when a stream may be free.
    room: Notify,
    /// Whether the peer has sent something of a call since the last look.
    heard: AtomicBool,
    silent: AtomicBool,
    closed: AtomicBool,
}

impl Line {
    /// Of a connection whose peer allows so many streams.
    pub(super) fn new(allowed: usize) -> Self {
        Self { allowed: AtomicUsize::new(allowed), ..Self::default() }
    }

    /// The calls in flight, and those that wait for a stream.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// The streams that the peer allows.
    pub(super) fn allowed(&self) -> usize {
        self.allowed.load(Ordering::SeqCst)
    }

    /// Notes how many streams the peer allows.
    pub(super) fn allow(&self, streams: usize) {
        if self.allowed() != streams {
            self.allowed.store(streams, Ordering::SeqCst);
            self.room.notify_waiters();
        }
    }

    /// Whether the connection takes no request any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Notes that it takes none any more. Calls that wait for a stream go on.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.room.notify_waiters();
    }

    /// Why a stream has this error.
    pub(super) fn explained(&self, error: h2::Error) -> Broken {
        match error.reason() {
            _ if self.silent.load(Ordering::Relaxed) => Broken::Silent,
            // Without the error as its source: the body of another request would end its stream with NO_ERROR, too.
            Some(Reason::NO_ERROR) if error.is_reset() => Broken::Cut,
            _ => Broken::Http2(error),
        }
    }

    /// Takes a stream, if the peer allows one more.
    fn takes_stream(&self) -> bool {
        let allowed = self.allowed();
        let one_more = |streams| (streams < allowed).then_some(streams + 1);
        self.streams.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }
}

/// A call on a connection, until this is dropped.
pub(super) struct InFlight {
    line: Arc<Line>,
    has_stream: bool,
}

impl InFlight {
    pub(super) fn on(line: &Arc<Line>) -> Self {
        line.calls.fetch_add(1, Ordering::Relaxed);
        Self { line: Arc::clone(line), has_stream: false }
    }

    /// Waits until the peer allows one more stream, or until the connection is closed.
    pub(super) async fn stream(&mut self) {
        loop {
            // Before the look: a stream that is freed after it is noticed.
            let room = self.line.room.notified();
            self.has_stream = self.line.takes_stream();
            if self.has_stream || self.line.is_closed() {
                return;
            }
            // The notification may go to a call that nobody polls, which must not hold up the others.
            let _ = timeout(LOOK, room).await;
        }
    }

    /// Notes that the peer has sent something of the call.
    pub(super) fn heard(&self) {
        self.line.heard.store(true, Ordering::Relaxed);
    }

    /// Why its stream has this error.
    pub(super) fn explained(&self, error: h2::Error) -> Broken {
        self.line.explained(error)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.has_stream {
            self.line.streams.fetch_sub(1, Ordering::SeqCst);
            self.line.room.notify_one();
        }
        self.line.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits until the peer of a call is silent, and does not answer.
pub(super) async fn silence(pings: Option<PingPong>, line: &Line) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    loop {
        sleep(KEEP_ALIVE).await;
        let is_quiet = !line.heard.swap(false, Ordering::Relaxed);
        if !is_quiet || line.calls() == 0 {
            continue;
        }
        // An error is that of the connection, which ends by itself.
        if timeout(KEEP_ALIVE, pings.ping(Ping::opaque())).await.is_err() {
            line.silent.store(true, Ordering::Relaxed);
            return;
        }
    }
}
