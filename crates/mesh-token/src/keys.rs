//! The keys of an issuer in use, and when they are fetched again.
//!
//! - One request is under way at a time; all tokens that need new keys wait for it, for at most [`WAIT`].
//! - A key that is not in a new set is no longer used at once. Without a new set, the last one is used for [`STALE`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_runtime::Backoff;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::issuer::Issuer;
use crate::jwks::{Found, KeySet};
use crate::jws::Header;
use crate::key::Key;
use crate::place::Place;
use crate::user::Refused;

/// The longest that a token waits for keys.
const WAIT: Duration = Duration::from_secs(1);
/// The longest request for keys.
const LIMIT: Duration = Duration::from_secs(5);
/// How long keys are used that cannot be fetched again.
pub(crate) const STALE: Duration = Duration::from_secs(24 * 3600);
/// The shortest time between two requests that tokens cause.
const PAUSE: Duration = Duration::from_secs(30);
/// The same while there are no keys at all, and for a file.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// How often keys are fetched again, by URL and from a file.
const INTERVAL: Duration = Duration::from_secs(300);
const FILE_INTERVAL: Duration = Duration::from_secs(5);
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60)).jitter(0.5..1.0);

/// The keys of an issuer. Cheap to clone; the clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    issuer: String,
    place: Place,
    roots: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    set: Arc<KeySet>,
    /// When the set was fetched.
    fetched: Option<Instant>,
    attempted: Option<Instant>,
    failures: u32,
    error: Option<String>,
    /// Closed once the request has ended.
    request: Option<watch::Receiver<()>>,
}

/// How an issuer does, for metrics and pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The number of keys in use.
    pub keys: usize,
    /// How long ago they were fetched. `None` if they never were.
    pub age: Option<Duration>,
    /// Why the last attempt to fetch them has failed.
    pub error: Option<String>,
}

impl Keys {
    pub(crate) fn new(issuer: &Issuer) -> Self {
        let (place, roots) = (issuer.place.clone(), issuer.roots.clone());
        Self(Arc::new(Shared { issuer: issuer.issuer.clone(), place, roots, state: Mutex::default() }))
    }

    /// The key of a token. Waits for new keys if there is none.
    pub(crate) async fn key(&self, header: &Header) -> Result<Arc<Key>, Refused> {
        match self.find(header) {
            Found::Key(key) => return Ok(key),
            Found::No(why) => return Err(Refused::Invalid(why)),
            Found::Unknown => {}
        }
        let issuer = &self.0.issuer;
        if let Some(request) = self.refresh()
            && timeout(WAIT, ended(request)).await.is_err()
        {
            return Err(Refused::Unavailable(format!("{issuer} has not answered within {} s", WAIT.as_secs())));
        }
        match (self.find(header), &self.0.lock().error) {
            (Found::Key(key), _) => Ok(key),
            (Found::No(why), _) => Err(Refused::Invalid(why)),
            (Found::Unknown, Some(error)) => {
                Err(Refused::Unavailable(format!("the keys of {issuer} are not known: {error}")))
            }
            (Found::Unknown, None) => Err(Refused::Invalid(format!("{issuer} has no key of this name"))),
        }
    }

    fn find(&self, header: &Header) -> Found {
        let set = self.0.lock().set();
        // Without keys, it is not known how many would fit.
        if set.keys.is_empty() { Found::Unknown } else { set.find(header) }
    }

    /// The request for new keys that a token waits for. `None` if the last one is not long ago.
    fn refresh(&self) -> Option<watch::Receiver<()>> {
        let mut state = self.0.lock();
        let short = state.set.keys.is_empty() || matches!(self.0.place, Place::File(_));
        let pause = if short { SHORT_PAUSE } else { PAUSE };
        let recent = state.attempted.is_some_and(|attempted| attempted.elapsed() < pause);
        if recent { state.request() } else { Some(self.fetch(&mut state)) }
    }

    /// Begins to fetch the keys, or joins the request that is under way. It goes on without its callers.
    fn fetch(&self, state: &mut State) -> watch::Receiver<()> {
        if let Some(request) = state.request() {
            return request;
        }
        let (end, request) = watch::channel(());
        state.request = Some(request.clone());
        state.attempted = Some(Instant::now());
        let shared = Arc::clone(&self.0);
        tokio::spawn(async move {
            let read = timeout(LIMIT, shared.place.read(shared.roots.clone())).await;
            let late = || Err(format!("no answer within {} s", LIMIT.as_secs()));
            shared.finish(read.unwrap_or_else(|_| late()));
            drop(end);
        });
        request
    }

    /// Fetches the keys again and again. Never returns.
    pub(crate) async fn keep_fresh(self) {
        let interval = if matches!(self.0.place, Place::File(_)) { FILE_INTERVAL } else { INTERVAL };
        loop {
            let request = self.fetch(&mut self.0.lock());
            ended(request).await;
            let failures = self.0.lock().failures;
            // Processes that have begun together do not ask together.
            let usual = interval.mul_f64(0.9 + 0.2 * fastrand::f64());
            sleep(if failures == 0 { usual } else { RETRY.pause(failures).min(usual) }).await;
        }
    }

    pub(crate) fn freshness(&self) -> Freshness {
        let mut state = self.0.lock();
        Freshness {
            issuer: self.0.issuer.clone(),
            keys: state.set().keys.len(),
            age: state.fetched.map(|fetched| fetched.elapsed()),
            error: state.error.clone(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, read: Result<Vec<u8>, String>) {
        let mut state = self.lock();
        let before = state.set();
        match read.and_then(|bytes| KeySet::parse(&bytes, &before.keys).map_err(|why| format!("the set of keys {why}")))
        {
            Ok(set) => {
                if state.error.is_some() || before.keys != set.keys {
                    tracing::info!(issuer = self.issuer, keys = set.keys.len(), "the keys of an issuer are in use");
                }
                state.set = Arc::new(set);
                state.fetched = Some(Instant::now());
                (state.failures, state.error) = (0, None);
            }
            Err(error) => {
                // Once in a row of failures, and again when it leaves no key.
                if state.failures == 0 && before.keys.is_empty() && self.place.is_missing_file() {
                    tracing::info!(
                        issuer = self.issuer,
                        error,
                        "an issuer has no keys yet: its tokens are refused until its file is there"
                    );
                } else if state.failures == 0 {
                    let consequence =
                        if before.keys.is_empty() { "its tokens are refused" } else { "the last ones stay in use" };
                    tracing::warn!(issuer = self.issuer, error, "the keys of an issuer cannot be read: {consequence}");
                }
                state.failures = state.failures.saturating_add(1);
                state.error = Some(error);
            }
        }
    }
}

impl State {
    /// The keys in use.
    fn set(&mut self) -> Arc<KeySet> {
        if self.fetched.is_some_and(|fetched| fetched.elapsed() > STALE) && !self.set.keys.is_empty() {
            tracing::error!("the keys of an issuer are older than a day and no longer used");
            self.set = Arc::default();
        }
        Arc::clone(&self.set)
    }

    /// The request that is under way.
    fn request(&self) -> Option<watch::Receiver<()>> {
        self.request.clone().filter(|request| request.has_changed().is_ok())
    }
}

async fn ended(mut request: watch::Receiver<()>) {
    // Nothing is ever sent: it is closed.
    let _ = request.changed().await;
}
