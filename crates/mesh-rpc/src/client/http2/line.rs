//! What the calls of a connection and its work tell each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use h2::{Ping, PingPong, Reason};
use tokio::time::{sleep, timeout};

/// How long a peer may be silent until it is asked with a ping, and until the answer. It detects an endpoint that
/// vanished without closing.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(10);

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
    /// The calls in flight.
    calls: AtomicUsize,
    /// Whether the peer has sent something of a call since the last look.
    heard: AtomicBool,
    silent: AtomicBool,
    closed: AtomicBool,
}

impl Line {
    /// The calls in flight.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Whether the connection takes no request any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Notes that it takes none any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Why a stream has this error.
    pub(super) fn explained(&self, error: h2::Error) -> Broken {
        match error.reason() {
            _ if self.silent.load(Ordering::Relaxed) => Broken::Silent,
            // It is no source: whoever passes it on would end a stream with it, too.
            Some(Reason::NO_ERROR) if error.is_reset() => Broken::Cut,
            _ => Broken::Http2(error),
        }
    }
}

/// A call in flight, until this is dropped.
pub(super) struct InFlight(Arc<Line>);

impl InFlight {
    pub(super) fn on(line: &Arc<Line>) -> Self {
        line.calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(line))
    }

    /// Notes that the peer has sent something of the call.
    pub(super) fn heard(&self) {
        self.0.heard.store(true, Ordering::Relaxed);
    }

    /// Why its stream has this error.
    pub(super) fn explained(&self, error: h2::Error) -> Broken {
        self.0.explained(error)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
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
