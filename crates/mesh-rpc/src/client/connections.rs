//! The HTTP/2 connections to one endpoint.
//!
//! The first call opens a connection. A call on a busy connection opens another one in the background, up to a limit.
//! All calls without a connection share one attempt to connect.
//!
//! Guarantees:
//! - A failed request reports whether it was sent. That decides whether it may be retried.
//! - A connection on which several calls in a row ended without a response gets no new calls.
//!
//! See: decisions 0013 and 0015.

use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use http::uri::Authority;
use http::{Request, Response};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use super::confirmed::Confirmed;
use super::greeting::{Foreign, Greeted, Greeting};
use super::http2::{Broken, Http2, Received};
use crate::identity::{Security, Snapshot, Source, Transport, Trust, lost, not_after};
use crate::telemetry::{Side, TlsMetrics};

/// The limit for connecting. After it, the endpoint is unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Consecutive calls without a response after which a connection gets no new calls.
const MAX_UNANSWERED: u32 = 3;
/// The age from which a connection may count as silent. A new connection does not help a slow peer.
const MIN_SILENT_AGE: Duration = Duration::from_secs(1);
/// Calls in flight on the least busy connection from which another one is opened. A second connection raises throughput
/// at many callers; a much lower value would cost tail latency. See docs/BENCHMARKS.md.
const BUSY_CALLS: usize = 32;
/// The same for a process of one thread, which a second connection only costs packets. Most servers allow 100 streams of
/// a connection or more; where one allows fewer, that is the number.
const BUSY_CALLS_OF_ONE_THREAD: usize = 96;
/// How long calls in flight may go on at a peer that is no longer trusted.
const DISTRUSTED_GRACE: Duration = Duration::from_secs(10);
/// The largest number of connections. Those after the second add little throughput and leave capacity for streams.
const MAX_CONNECTIONS: usize = 4;

/// Why a request got no response. The cause is for the log.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unanswered {
    /// No connection could be opened. Nothing was sent: any request may be retried.
    #[error("{0}")]
    Unreachable(Cause),
    /// The peer speaks another protocol, and has understood nothing: any request may be retried. The request is gone.
    #[error("{0}")]
    Foreign(Cause),
    /// The endpoint did not process the request: any request may be retried.
    #[error("{0}")]
    Refused(Cause),
    /// The endpoint may have processed the request: only an idempotent request may be retried.
    #[error("{0}")]
    Lost(Cause),
}

/// The underlying error, for the log.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// How connections to the instances of a service are opened.
#[derive(Clone, Debug, Default)]
pub struct Dial {
    /// The service: the server must have its identity.
    pub service: Arc<str>,
    /// Where TLS is spoken, and the certificates of this process.
    pub transport: Transport,
    /// Where handshakes are counted.
    pub metrics: TlsMetrics,
    /// Whether it is a program beside this process: it cannot vanish without closing its connections, and may take
    /// pings amiss. gRPC's own servers close a connection after three.
    pub is_beside: bool,
}

/// The connections to one endpoint.
pub struct Connections {
    authority: Authority,
    dial: Dial,
    pool: Arc<Mutex<Pool>>,
    /// Whether the log has that the peer speaks another protocol.
    is_foreign: AtomicBool,
}

#[derive(Default)]
struct Pool {
    open: Vec<Arc<Open>>,
    /// Whether the last attempt failed, and the log has why.
    is_reported: bool,
    opening: Option<PendingConnection>,
}

/// An attempt to connect, shared by all calls that wait for it.
type PendingConnection = future::Shared<BoxFuture<'static, Result<Arc<Open>, Unanswered>>>;

/// A connection, and what is known of it.
struct Open {
    http2: Http2,
    start: Instant,
    /// When the certificate of the peer ends; `None` without one.
    end: Option<SystemTime>,
    /// What the peer speaks instead of HTTP/2. Without TLS a connection is used before its first bytes arrive.
    greeted: Greeted,
    /// Whether the authority of the peer's certificate is no longer trusted.
    distrusted: Arc<AtomicBool>,
    /// Consecutive calls that ended without a response.
    unanswered: AtomicU32,
}

impl Connections {
    /// Creates the set without opening a connection.
    pub fn to(authority: Authority, dial: Dial) -> Self {
        Self { authority, dial, pool: Arc::default(), is_foreign: AtomicBool::new(false) }
    }

    /// The same, for a caller that reports failures itself.
    pub(super) fn unlogged(self) -> Self {
        lock(&self.pool).is_reported = true;
        Self { is_foreign: AtomicBool::new(true), ..self }
    }

    /// Takes a request, sends it, and waits for the response head. Dropping the future, or the body of the response,
    /// resets the stream.
    ///
    /// # Errors
    ///
    /// See [`Unanswered`].
    pub async fn send(&self, request: &mut Request<Body>) -> Result<Response<Received>, Unanswered> {
        let mut tries = 0;
        loop {
            let connection = self.connection().await?;
            let pending = PendingResponse(&connection);
            let result = connection.http2.send(request).await;
            drop(pending);
            connection.unanswered.store(0, Ordering::Relaxed);
            return match (result, connection.greeted.get()) {
                (Ok(response), _) => {
                    // A test alone does not take the cache line from other cores.
                    if self.is_foreign.load(Ordering::Relaxed) {
                        self.is_foreign.store(false, Ordering::Relaxed);
                    }
                    Ok(response)
                }
                (Err(_), Some(foreign)) => Err(self.foreign(foreign)),
                // It closed before it took the request, for example because of its age. Another one can send it.
                (Err(Broken::Closed(_)), None) if tries < MAX_CONNECTIONS => {
                    tries += 1;
                    continue;
                }
                (Err(broken), None) => {
                    let why = if refused(&broken) { Unanswered::Refused } else { Unanswered::Lost };
                    Err(why(Arc::new(broken)))
                }
            };
        }
    }

    /// The failure of a request to a peer that speaks another protocol: it has understood nothing. The log has it once.
    fn foreign(&self, foreign: &Foreign) -> Unanswered {
        if !self.is_foreign.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = %foreign, service = &*self.dial.service, authority = %self.authority, "no connection to a peer");
        }
        Unanswered::Foreign(Arc::new(foreign.clone()))
    }

    /// The connection with the fewest calls in flight.
    async fn connection(&self) -> Result<Arc<Open>, Unanswered> {
        let opening = {
            let mut pool = lock(&self.pool);
            pool.open.retain(|connection| {
                !connection.http2.is_closed() && !connection.is_silent() && !connection.has_ended()
            });
            match pool.open.iter().min_by_key(|connection| connection.http2.calls()) {
                Some(least_busy) => {
                    let (least_busy, busy) = (Arc::clone(least_busy), is_busy(&least_busy.http2));
                    if busy && pool.open.len() < MAX_CONNECTIONS {
                        // The spawned task continues without a waiting call.
                        drop(self.open(&mut pool));
                    }
                    return Ok(least_busy);
                }
                None => self.open(&mut pool),
            }
        };
        opening.await
    }

    /// Starts to open a connection, unless an attempt is in progress.
    fn open(&self, pool: &mut Pool) -> PendingConnection {
        let (authority, dial, shared) = (self.authority.clone(), self.dial.clone(), Arc::downgrade(&self.pool));
        let opening = pool.opening.get_or_insert_with(|| {
            let opened = tokio::spawn(async move {
                let connected = connect(&authority, &dial).await;
                if let Some(shared) = shared.upgrade() {
                    let mut pool = lock(&shared);
                    pool.opening = None;
                    // Once, until a connection is open again.
                    let failed = connected.as_ref().err();
                    if let Some(error) = failed.filter(|_| dial.transport.source.is_some() && !pool.is_reported) {
                        tracing::warn!(%error, service = &*dial.service, %authority, "no connection to a peer");
                    }
                    pool.is_reported = failed.is_some();
                    pool.open.extend(connected.as_ref().ok().cloned());
                }
                connected
            });
            // The task fails only with its runtime, and no call waits then.
            opened.map(|opened| opened.unwrap_or_else(|failed| Err(unreachable(failed)))).boxed().shared()
        });
        opening.clone()
    }
}

impl Open {
    /// Whether the certificate of the peer has ended, or is no longer trusted.
    fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| end <= SystemTime::now()) || self.distrusted.load(Ordering::Relaxed)
    }

    fn is_silent(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= MAX_UNANSWERED && self.start.elapsed() > MIN_SILENT_AGE
    }
}

/// A call that waits for its response. The drop counts the call as unanswered; the response resets the count.
struct PendingResponse<'a>(&'a Open);

impl Drop for PendingResponse<'_> {
    fn drop(&mut self) {
        self.0.unanswered.fetch_add(1, Ordering::Relaxed);
    }
}

async fn connect(authority: &Authority, dial: &Dial) -> Result<Arc<Open>, Unanswered> {
    let connected = async {
        let stream = TcpStream::connect(authority.as_str()).await.map_err(unreachable)?;
        // RPCs are small: send each packet at once.
        let _ = stream.set_nodelay(true);
        match dial.transport.at(stream.peer_addr().map_err(unreachable)?) {
            Security::Plaintext => {
                let (stream, greeted) = Greeting::of(stream);
                let (http2, distrusted) = open(stream, None, !dial.is_beside).await?;
                Ok(((http2, distrusted, None), greeted))
            }
            Security::Mutual(source) => {
                let name = ServerName::try_from(dial.service.to_string()).map_err(unreachable)?;
                let current = source.current();
                let connector = TlsConnector::from(Arc::new(current.client(&dial.service)));
                let authenticated = authenticated(connector.connect(name, stream), source, current).await;
                dial.metrics.handshake(Side::Client, authenticated.is_ok());
                authenticated.map(|opened| (opened, Greeted::default()))
            }
            Security::Refused => Err(unreachable(io::Error::other(
                "plaintext is for loopback: set the three keys of identity, or tls.mode to plaintext",
            ))),
        }
    };
    let timed_out =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no connection to {authority} after {CONNECT_TIMEOUT:?}"));
    let connected = timeout(CONNECT_TIMEOUT, connected).await.unwrap_or_else(|_| Err(unreachable(timed_out())));
    let ((http2, distrusted, end), greeted) = connected?;
    let (start, unanswered) = (Instant::now(), AtomicU32::new(0));
    Ok(Arc::new(Open { http2, start, end, greeted, distrusted, unanswered }))
}

/// Begins HTTP/2 on a connection by TLS, and waits until the peer has accepted the certificate of this process. Returns
/// when the certificate of the peer ends, too.
async fn authenticated(
    connecting: tokio_rustls::Connect<TcpStream>,
    source: &Source,
    checked: Arc<Snapshot>,
) -> Result<(Http2, Arc<AtomicBool>, Option<SystemTime>), Unanswered> {
    let stream = connecting.await.map_err(|error| unreachable(explained(error)))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let end = chain.first().and_then(|certificate| not_after(certificate));
    let trust = Trust::of(source.clone(), checked, chain);
    let (stream, confirmed) = Confirmed::of(stream);
    let (http2, distrusted) = open(stream, Some(trust), true).await?;
    let closed =
        |_| io::Error::new(io::ErrorKind::ConnectionAborted, "the peer closed the connection in the handshake");
    confirmed.await.unwrap_or_else(|error| Err(closed(error))).map_err(unreachable)?;
    Ok((http2, distrusted, end))
}

/// Names the cause of a failed handshake that rustls only describes: the peer has answered without TLS.
fn explained(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => io::Error::new(
            error.kind(),
            "the peer does not speak TLS, and this process does: tls.mode must be the same in both",
        ),
        _ => error,
    }
}

/// Begins HTTP/2 on a connection. Returns where it notes that the peer is no longer trusted, too.
async fn open<I>(stream: I, trust: Option<Trust>, pings: bool) -> Result<(Http2, Arc<AtomicBool>), Unanswered>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (http2, work) = Http2::open(stream, pings).await.map_err(unreachable)?;
    let distrusted = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&distrusted);
    // The task ends after the last user of the connection. Calls in flight are still finished.
    tokio::spawn(async move {
        let mut work = pin!(work);
        let ended = tokio::select! {
            ended = &mut work => ended,
            () = lost(trust.as_ref()) => {
                noted.store(true, Ordering::Relaxed);
                timeout(DISTRUSTED_GRACE, work).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection to a peer ended");
        }
    });
    Ok((http2, distrusted))
}

/// Whether another connection is opened beside this one.
fn is_busy(http2: &Http2) -> bool {
    let (calls, streams) = (http2.calls(), http2.streams());
    // The number of threads is asked for last: most connections have few calls.
    let threads = || tokio::runtime::Handle::current().metrics().num_workers();
    calls >= BUSY_CALLS.min(streams) && (calls >= BUSY_CALLS_OF_ONE_THREAD.min(streams) || threads() > 1)
}

fn unreachable(cause: impl Error + Send + Sync + 'static) -> Unanswered {
    Unanswered::Unreachable(Arc::new(cause))
}

/// Whether the endpoint did not process the request: it was not sent, its GOAWAY names an earlier last stream ([RFC 9113,
/// 6.8](https://www.rfc-editor.org/rfc/rfc9113#section-6.8)), or it refused the stream (8.7).
fn refused(error: &Broken) -> bool {
    let error = match error {
        Broken::Closed(_) => return true,
        Broken::Http2(error) => error,
        Broken::Cut | Broken::Silent => return false,
    };
    let going_away = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (going_away || refused)
}

fn lock(pool: &Mutex<Pool>) -> MutexGuard<'_, Pool> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
