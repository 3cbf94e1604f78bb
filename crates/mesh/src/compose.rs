//! Composes an answer from the answers of peers: its parts, under the deadline of one call.
//!
//! A composer or a backend for one kind of client makes the calls that its client would make one after the other. Those
//! that do not need each other's answers run at the same time:
//!
//! ```
//! # use mesh::compose::Parts;
//! # use tonic::{Response, Status};
//! # async fn title() -> Result<Response<&'static str>, Status> { Ok(Response::new("Metropolis")) }
//! # async fn picture() -> Result<Response<&'static str>, Status> { Err(Status::unavailable("")) }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Status> {
//! let parts = Parts::begin();
//! let (title, picture) = tokio::try_join!(parts.required(title()), parts.optional("artwork", picture()))?;
//! assert_eq!((title, picture), ("Metropolis", None));
//! assert_eq!(parts.unreachable(), ["services/artwork"]);
//! # Ok(())
//! # }
//! ```
//!
//! Guarantees:
//! - An optional part takes at most three quarters of the time that is left when it begins: a peer that is silent does
//!   not cost the whole answer.
//! - A part that is dropped is cancelled at its peer, and so are all parts when the caller leaves.
//! - An answer without a part names the service that it lacks, and nothing of the cause.
//!
//! Does not: know what the parts mean. A rule that several composers need belongs to the service that owns the data.
//!
//! See: [AIP-217](https://google.aip.dev/217), docs/guide/composing.md

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures_util::future::try_join_all;
use mesh_rpc::call::Context;
use mesh_rpc::call::error::is_unreadable;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Response, Status};

/// The part of the time left that an optional part may take.
const SHARE: f64 = 0.75;

/// The parts of one answer.
#[derive(Debug)]
pub struct Parts {
    /// When the answer is due; `None` if the call has no deadline.
    due: Option<Instant>,
    missing: Mutex<BTreeSet<&'static str>>,
}

impl Parts {
    /// Begins the answer to the call that this task serves. It is due at the deadline of the call, or else after the
    /// default deadline of its contract.
    pub fn begin() -> Self {
        let context = Context::current();
        let default = || Some(Instant::now() + context.method?.default_deadline?);
        Self { due: context.deadline.or_else(default), missing: Mutex::default() }
    }

    /// A part without which there is no answer.
    ///
    /// # Errors
    ///
    /// The status of the call. A composer that returns it unchanged answers with PEER_UNAVAILABLE or PEER_FAILED; to
    /// tell its caller that what it asks for does not exist, it passes NOT_FOUND on
    /// ([`peer::pass_on`](crate::peer::pass_on)).
    pub async fn required<T>(&self, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
        let context = Context { deadline: self.due, ..Context::current() };
        Ok(context.scope(call).await?.into_inner())
    }

    /// A part that the answer can do without. `None` if it does not exist (NOT_FOUND), or if `service`, the name of the
    /// peer, cannot answer now; then [`unreachable`](Self::unreachable) names it.
    ///
    /// # Errors
    ///
    /// A status that says something of the request, such as INVALID_ARGUMENT or PERMISSION_DENIED.
    pub async fn optional<T>(
        &self,
        service: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Option<T>, Status> {
        let now = Instant::now();
        let until = self.due.map(|due| now + due.saturating_duration_since(now).mul_f64(SHARE));
        let context = Context { deadline: until, ..Context::current() };
        // The channel ends its call a little sooner. A part need not be one call.
        let answer = match until {
            Some(until) => timeout_at(until, context.scope(call)).await.unwrap_or_else(|_| Err(late())),
            None => context.scope(call).await,
        };
        match answer {
            Ok(answer) => Ok(Some(answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) if is_of_the_peer(&status) => {
                if is_a_defect(status.code()) {
                    tracing::warn!(service, %status, "an answer lacks a part");
                } else {
                    tracing::debug!(service, %status, "an answer lacks a part");
                }
                self.missing.lock().unwrap_or_else(PoisonError::into_inner).insert(service);
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }

    /// An optional part for each of several keys, by calls that take at most `most` of them: the answers of all calls.
    /// Each key is asked for once; without keys there is no call. The calls run at the same time, and one that fails
    /// leaves the others their answers.
    ///
    /// # Errors
    ///
    /// As [`optional`](Self::optional).
    pub async fn batched<K, T, C>(
        &self,
        service: &'static str,
        keys: impl IntoIterator<Item = K>,
        most: usize,
        call: impl Fn(Vec<K>) -> C,
    ) -> Result<Vec<T>, Status>
    where
        K: Clone + Eq + Hash,
        C: Future<Output = Result<Response<T>, Status>>,
    {
        let mut seen = HashSet::new();
        let keys: Vec<_> = keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
        let calls = keys.chunks(most.max(1)).map(|keys| self.optional(service, call(keys.to_vec())));
        Ok(try_join_all(calls).await?.into_iter().flatten().collect())
    }

    /// The services that the answer lacks a part of, as `services/NAME`, in alphabetical order: the field `unreachable`
    /// of the response.
    #[must_use]
    pub fn unreachable(self) -> Vec<String> {
        let missing = self.missing.into_inner().unwrap_or_else(PoisonError::into_inner);
        missing.into_iter().map(|service| format!("services/{service}")).collect()
    }
}

/// Whether a failure says that the peer, or the way to it, does not work now; an earlier version of it may lack the
/// method. Another code is about the request.
fn is_of_the_peer(status: &Status) -> bool {
    let not_now = matches!(
        status.code(),
        Code::Aborted
            | Code::Cancelled
            | Code::DataLoss
            | Code::DeadlineExceeded
            | Code::Internal
            | Code::ResourceExhausted
            | Code::Unavailable
            | Code::Unimplemented
            | Code::Unknown
    );
    // tonic says that an answer is too large in the words of a bad request.
    not_now || is_unreadable(status)
}

/// Whether a failure is no outage: nobody would find it in an answer that lacks a part.
fn is_a_defect(code: Code) -> bool {
    matches!(code, Code::DataLoss | Code::Internal | Code::OutOfRange | Code::Unimplemented | Code::Unknown)
}

fn late() -> Status {
    Status::deadline_exceeded("the part took its share of the time")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    type Answer<T> = Result<Response<T>, Status>;

    async fn fails(code: Code) -> Answer<()> {
        Err(Status::new(code, "private"))
    }

    /// Runs `compose` in a call with this deadline.
    async fn within<F: Future>(time: Duration, compose: impl FnOnce(Parts) -> F) -> F::Output {
        let context = Context { deadline: Some(Instant::now() + time), ..Context::default() };
        context.scope(async { compose(Parts::begin()).await }).await
    }

    #[tokio::test]
    async fn optional_part_is_absent_unreachable_or_an_error_by_its_code() {
        for code in (1..=16).map(Code::from_i32) {
            let parts = Parts::begin();
            let part = parts.optional("artwork", fails(code)).await;
            let unreachable = parts.unreachable();
            match code {
                Code::NotFound => assert!(matches!(part, Ok(None)) && unreachable.is_empty()),
                Code::InvalidArgument
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unauthenticated => assert_eq!(part.unwrap_err().code(), code),
                _ => assert!(matches!(part, Ok(None)) && unreachable == ["services/artwork"], "{code:?}"),
            }
        }
    }

    #[tokio::test]
    async fn optional_part_that_is_too_large_is_unreachable() {
        let parts = Parts::begin();
        let large = async { Err(Status::out_of_range("Error, decoded message length too large: found 9 bytes")) };
        assert_eq!(parts.optional::<()>("artwork", large).await.unwrap(), None);
        assert_eq!(parts.unreachable(), ["services/artwork"]);
    }

    #[tokio::test]
    async fn required_part_fails_with_its_status() {
        let parts = Parts::begin();
        assert_eq!(parts.required(fails(Code::Unavailable)).await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(parts.required(async { Ok(Response::new(7)) }).await.unwrap(), 7);
        assert!(parts.unreachable().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_optional_part_takes_its_share_of_the_time_left() {
        within(Duration::from_secs(4), |parts| async move {
            let start = Instant::now();
            let silent = || async {
                assert!(Context::current().remaining().is_some_and(|left| left < Duration::from_secs(4)));
                pending::<Answer<()>>().await
            };
            assert_eq!(parts.optional("b", silent()).await.unwrap(), None);
            assert_eq!(start.elapsed(), Duration::from_secs(3));
            // What is left is shared again, and a required part has all of it.
            assert_eq!(parts.optional("a", silent()).await.unwrap(), None);
            assert_eq!(start.elapsed(), Duration::from_millis(3750));
            let left = parts.required(async { Ok(Response::new(Context::current().remaining())) }).await.unwrap();
            assert_eq!(left, Some(Duration::from_millis(250)));
            assert_eq!(parts.unreachable(), ["services/a", "services/b"]);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn parts_run_at_the_same_time() {
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Response::new(()))
        };
        within(Duration::from_secs(4), |parts| async move {
            let start = Instant::now();
            tokio::try_join!(parts.required(slow()), parts.optional("a", slow()), parts.optional("b", slow())).unwrap();
            assert_eq!(start.elapsed(), Duration::from_secs(1));
        })
        .await;
    }

    #[tokio::test]
    async fn batched_part_asks_for_each_key_once_and_keeps_what_answers() {
        let parts = Parts::begin();
        let calls = AtomicUsize::new(0);
        let call = |keys: Vec<u32>| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { if keys[0] == 1 { Ok(Response::new(keys)) } else { Err(Status::unavailable("")) } }
        };
        assert_eq!(parts.batched("a", [1, 2, 1, 2, 3, 3], 2, call).await.unwrap(), [[1, 2]]);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert!(parts.batched("a", [], 2, call).await.unwrap().is_empty());
        assert_eq!(calls.load(Ordering::Relaxed), 2, "no key, no call");
        assert_eq!(parts.unreachable(), ["services/a"]);
    }

    #[tokio::test]
    async fn failed_part_drops_the_others() {
        struct Dropped<'a>(&'a AtomicBool);
        impl Drop for Dropped<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let dropped = AtomicBool::new(false);
        let parts = Parts::begin();
        let guard = Dropped(&dropped);
        let endless = async {
            let _guard = guard;
            pending::<Answer<()>>().await
        };
        let failed = tokio::try_join!(parts.optional("a", endless), parts.required(fails(Code::Unavailable)));
        assert_eq!(failed.unwrap_err().code(), Code::Unavailable);
        assert!(dropped.load(Ordering::Relaxed));
    }
}
