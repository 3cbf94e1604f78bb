//! The connections to one endpoint: made when the first call needs one, kept, and made again when they broke. Nothing
//! waits for a peer to start.
//!
//! One connection carries many calls, but all of their frames go through one task and one lock at either end, and a
//! server takes only so many on one. So a second one is opened when the first has much to do, and so on, up to a few;
//! calls never wait for that one. Without a connection they all wait for the same attempt at making one, which goes on if
//! they stop waiting.
//!
//! A connection may be dead without anybody having said so: a firewall on the way has lost its memory, say. HTTP/2's
//! pings find out, after twenty seconds. Callers find out sooner: one on which call after call ends without an answer
//! is left to those it carries, and the next call gets another.
//!
//! These are hyper's connections and not tonic's channels: hyper says of a request that failed whether it was ever
//! sent, which is what decides whether it may be sent again.

use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use http::uri::Authority;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tonic::body::Body;

/// What an answer's headers may take. hyper's default of 16 KiB is less than a list of bad fields may be.
const HEADERS: u32 = 64 * 1024;
/// How long to try before an endpoint counts as unreachable.
const CONNECT: Duration = Duration::from_secs(1);
/// Finds out about an endpoint that vanished without a word, while there are calls to it.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Calls in a row without an answer after which a connection is not used any more.
const SILENT: u32 = 3;
/// But no younger one than this: a peer that is slow is not helped by ever more connections.
const YOUNG: Duration = Duration::from_secs(1);
/// Calls in flight at which there should be another connection. On two cores and otherwise idle, the benchmark's 64
/// callers got 61,000 calls a second through two and 44,000 through one, 256 of them 51,000 and 43,000. With 16 a second
/// one would make half as many more, but twice as late at the 99th percentile.
const BUSY: usize = 32;
/// Four are hardly faster than two there; they are room for streams.
const MOST: usize = 4;

/// Why a request was not answered, with a cause for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// There is no connection to be had.
    #[error("{0}")]
    Unreachable(Cause),
    /// The endpoint has said that it will not look at it.
    #[error("{0}")]
    Refused(Cause),
    /// The endpoint may have begun to work for it.
    #[error("{0}")]
    Lost(Cause),
}

/// Why a request was not answered, for the log.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// The connections to one endpoint.
pub struct Connections {
    authority: Authority,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    open: Vec<Connection>,
    opening: Option<Opening>,
}

/// Somebody is about to have a connection.
type Opening = Shared<BoxFuture<'static, Result<Connection, Unanswered>>>;

#[derive(Clone)]
struct Connection {
    sender: SendRequest<Body>,
    /// Every clone but the first is a call in flight.
    calls: Arc<Calls>,
}

/// A call's place on its connection, until the end of its answer.
pub struct InUse(#[expect(dead_code, reason = "it is counted")] Arc<Calls>);

/// What has become of the calls on a connection.
struct Calls {
    begin: Instant,
    /// In a row.
    unanswered: AtomicU32,
}

impl Connections {
    /// Opens none yet.
    pub fn to(authority: Authority) -> Self {
        Self { authority, state: Arc::default() }
    }

    /// Sends a request, and waits for the head of its answer. Dropping it tells the endpoint to stop. Whoever has the
    /// rest of the answer says so by what comes with it.
    pub async fn send(&self, mut request: Request<Body>) -> Result<(Response<Incoming>, InUse), Unanswered> {
        let mut tries = 0;
        loop {
            let mut connection = self.connection().await?;
            let waiting = Waiting(&connection.calls);
            let answer = connection.sender.try_send_request(request).await;
            drop(waiting);
            connection.calls.unanswered.store(0, Ordering::Relaxed);
            let mut failed = match answer {
                Ok(response) => return Ok((response, InUse(connection.calls))),
                Err(failed) => failed,
            };
            // The connection has ended before its turn came, as one does that has grown old. There are others.
            match failed.take_message() {
                Some(unsent) if tries < MOST => (request, tries) = (unsent, tries + 1),
                Some(_) => return Err(Unanswered::Refused(Arc::new(failed.into_error()))),
                None => {
                    let cause = failed.into_error();
                    let why = if refused(&cause) { Unanswered::Refused } else { Unanswered::Lost };
                    return Err(why(Arc::new(cause)));
                }
            }
        }
    }

    /// The one with the least to do.
    async fn connection(&self) -> Result<Connection, Unanswered> {
        let opening = {
            let mut state = lock(&self.state);
            state.open.retain(|connection| !connection.sender.is_closed() && !connection.is_silent());
            match state.open.iter().min_by_key(|connection| connection.calls()) {
                Some(idlest) => {
                    let (idlest, busy) = (idlest.clone(), idlest.calls() >= BUSY);
                    if busy && state.open.len() < MOST {
                        // It goes on without anybody who waits for it.
                        drop(self.open(&mut state));
                    }
                    return Ok(idlest);
                }
                None => self.open(&mut state),
            }
        };
        opening.await
    }

    /// Begins to open one, if nobody has.
    fn open(&self, state: &mut State) -> Opening {
        let (authority, shared) = (self.authority.clone(), Arc::downgrade(&self.state));
        let opening = state.opening.get_or_insert_with(|| {
            let opened = tokio::spawn(async move {
                let connected = connect(&authority).await;
                if let Some(shared) = shared.upgrade() {
                    let mut state = lock(&shared);
                    state.opening = None;
                    state.open.extend(connected.as_ref().ok().cloned());
                }
                connected
            });
            // It fails only with its runtime, and then nobody waits.
            opened.map(|opened| opened.unwrap_or_else(|gone| Err(unreachable(gone)))).boxed().shared()
        });
        opening.clone()
    }
}

impl Connection {
    fn calls(&self) -> usize {
        Arc::strong_count(&self.calls) - 1
    }

    fn is_silent(&self) -> bool {
        self.calls.unanswered.load(Ordering::Relaxed) >= SILENT && self.calls.begin.elapsed() > YOUNG
    }
}

/// Somebody who waits for an answer. Who stops waiting is counted.
struct Waiting<'a>(&'a Calls);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.unanswered.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connect(authority: &Authority) -> Result<Connection, Unanswered> {
    let connected = async {
        let stream = TcpStream::connect(authority.as_str()).await.map_err(unreachable)?;
        // Small requests are what RPCs are made of: do not wait for more to put into a packet.
        let _ = stream.set_nodelay(true);
        let mut http2 = Builder::new(TokioExecutor::new());
        http2.max_header_list_size(HEADERS);
        http2.timer(TokioTimer::new()).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
        http2.handshake(TokioIo::new(stream)).await.map_err(unreachable)
    };
    let timed_out =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {authority} within {CONNECT:?}"));
    let (sender, connection) = timeout(CONNECT, connected).await.map_err(|_| unreachable(timed_out()))??;
    // It hands out requests, and ends with the last sender; what is in flight then goes on by itself.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection to a peer ended");
        }
    });
    let calls = Arc::new(Calls { begin: Instant::now(), unanswered: AtomicU32::new(0) });
    Ok(Connection { sender, calls })
}

fn unreachable(cause: impl Error + Send + Sync + 'static) -> Unanswered {
    Unanswered::Unreachable(Arc::new(cause))
}

/// Whether the endpoint has said that it will not look at the request: it is going away and has named the last one it
/// looks at ([RFC 9113, 6.8](https://www.rfc-editor.org/rfc/rfc9113#section-6.8)), or it has refused the stream (8.7).
fn refused(error: &hyper::Error) -> bool {
    let refusal = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    refusal.is_some_and(|error| {
        let leaves = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refuses = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (leaves || refuses)
    })
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
