//! The layer that lets callers read their own writes. Before the handler it waits for the copies that the caller's
//! tokens name, and behind it it answers with the tokens of what the call has published.
//!
//! Guarantees:
//! - A call without the header `mesh-consistency` passes: nothing is allocated, locked or timed for it.
//! - A call that waits has no permit, since its request is not read (INV-13). It waits for 2 s at most, and not until
//!   its deadline.
//! - A committed write does not fail because of its token: without one in time, the answer goes without.
//!
//! See: decision 0038

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Response;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::Status;

use super::answer::{Answer, Answered};
use super::request::Arrived;
use crate::call::body::failure_of;
use crate::call::error::{NOT_CAUGHT_UP, unavailable_with};
use crate::call::{Consistency, Context, Token};

/// The longest wait for copies.
const COPIES: Duration = Duration::from_secs(2);
/// The longest wait until published events have their positions.
const POSITIONS: Duration = Duration::from_millis(250);
/// The invited delay of a retry. A copy is often some milliseconds behind, and this one lags by seconds.
const RETRY: Duration = Duration::from_millis(500);

/// What the services of a process publish and follow.
pub trait Places: Send + Sync {
    /// Waits until the copy that `service` has of a source is as far as `token`. It ends at once for a source that the
    /// service does not follow.
    fn reached<'a>(&'a self, service: &'a str, token: &'a Token) -> Pending<'a, ()>;

    /// How far the events of `service` are, with all that has been committed; `None` if the service does not publish,
    /// or its database fails. It may wait without an end.
    fn published<'a>(&'a self, service: &'a str) -> Pending<'a, Option<Token>>;
}

/// What is waited for.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The [`Places`] of a process, set once its services are built.
pub type KnownPlaces = Arc<OnceLock<Box<dyn Places>>>;

/// Waits for copies, and answers with tokens.
pub(super) struct OwnWrites<N> {
    pub(super) next: N,
    pub(super) places: KnownPlaces,
}

impl<N: Answer> Answer for OwnWrites<N> {
    async fn answer(&self, call: Arrived) -> Response<Answered> {
        match (&call.context.consistency, self.places.get()) {
            (Some(asked), Some(places)) if !is_about_the_process(&call) => {
                let asked = asked.clone();
                // Boxed, so that the future of other calls stays as small as it is.
                Box::pin(answer(&self.next, &asked, &**places, call)).await
            }
            _ => self.next.answer(call).await,
        }
    }
}

/// Whether a call is one of health or reflection, which grpcurl makes with the headers of its call.
fn is_about_the_process(call: &Arrived) -> bool {
    call.method.service.starts_with("grpc.")
}

async fn answer<N: Answer>(next: &N, asked: &Consistency, places: &dyn Places, call: Arrived) -> Response<Answered> {
    let (context, service) = (call.context.clone(), call.method.service.split('.').next().unwrap_or_default());
    let ready = match asked.check() {
        Ok(()) => wait_for_copies(asked, places, service, &context).await,
        malformed => malformed,
    };
    if let Err(status) = ready {
        return status.into_http();
    }
    let mut response = next.answer(call).await;
    if asked.wants() && failure_of(response.headers()).is_none() {
        asked.write_answer(tokens(asked, places, &context).await, response.headers_mut());
    }
    response
}

async fn wait_for_copies(
    asked: &Consistency,
    places: &dyn Places,
    service: &str,
    context: &Context,
) -> Result<(), Status> {
    // The rest is for the handler, or for the answer that there is none.
    let limit = context.remaining().map_or(COPIES, |left| COPIES.min(left.mul_f64(0.9)));
    let until = Instant::now() + limit;
    for token in asked.tokens() {
        if timeout_at(until, places.reached(service, token)).await.is_err() {
            return Err(not_caught_up(service, token, limit));
        }
    }
    Ok(())
}

fn not_caught_up(service: &str, token: &Token, limit: Duration) -> Status {
    let Token { source, epoch, position } = token;
    let message = format!(
        "the copy of `{source}` in `{service}` has not reached position {position} of epoch {epoch} within {limit:.1?}; \
         retry later, or read without the token"
    );
    unavailable_with(NOT_CAUGHT_UP, message, RETRY, [("source", source.clone())])
}

/// The tokens of what the call has published in this process.
async fn tokens(asked: &Consistency, places: &dyn Places, context: &Context) -> Vec<Token> {
    // The write is committed: its answer must not miss the deadline.
    let limit = context.remaining().map_or(POSITIONS, |left| POSITIONS.min(left / 2));
    let mut tokens = Vec::new();
    for service in asked.published() {
        tokens.extend(timeout(limit, places.published(service)).await.ok().flatten());
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::super::answer::{Services, boxed};
    use super::*;
    use crate::call::tests::{GET, WATCH};
    use crate::call::{Call, Handler, handler};
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::time::sleep;
    use tonic::Code;
    use tonic::body::Body;
    use tonic_types::StatusExt as _;

    const CATALOG: &str = "catalog=4bf92f35-77b3-4da6-a3ce-929d0e0e4736.7";
    const NEVER: &str = "never=4bf92f35-77b3-4da6-a3ce-929d0e0e4736.7";

    /// A service `google`, which follows `catalog` with a lag of a second, and `never`.
    #[derive(Default)]
    struct Lagging(Arc<AtomicUsize>);

    impl Places for Lagging {
        fn reached<'a>(&'a self, service: &'a str, token: &'a Token) -> Pending<'a, ()> {
            assert_eq!(service, "google");
            self.0.fetch_add(1, Ordering::Relaxed);
            match &*token.source {
                "catalog" => Box::pin(sleep(Duration::from_secs(1))),
                "never" => Box::pin(pending()),
                _ => Box::pin(ready(())),
            }
        }

        fn published<'a>(&'a self, service: &'a str) -> Pending<'a, Option<Token>> {
            match service {
                "late" => Box::pin(pending()),
                "silent" => Box::pin(ready(None)),
                _ => Box::pin(ready(Some(Token { source: service.to_owned(), epoch: uuid::Uuid::nil(), position: 9 }))),
            }
        }
    }

    /// A server whose handler notes that these services have published, and the number of waits.
    fn server(published: &'static [&'static str]) -> (Handler, Arc<AtomicUsize>) {
        let publishes = handler(move |_| async move {
            for service in published {
                Context::note_published(service);
            }
            Response::new(Body::empty())
        });
        let waits = Arc::default();
        let places = KnownPlaces::default();
        let _ = places.set(Box::new(Lagging(Arc::clone(&waits))));
        (boxed(OwnWrites { next: Services(publishes), places }), waits)
    }

    /// The answer to a call with this header, in the context that the layer of deadlines sets.
    async fn answer(server: &Handler, header: Option<&str>, left: Option<Duration>) -> Response<Body> {
        let mut call = Call::to(GET, Body::empty());
        if let Some(header) = header {
            call.request.headers_mut().insert("mesh-consistency", header.parse().unwrap());
        }
        let mut call = Call::new(call.method, None, call.request);
        call.context.deadline = left.map(|left| Instant::now() + left);
        call.context.clone().scope(server(call)).await
    }

    fn token(response: &Response<Body>) -> Option<&str> {
        response.headers().get("mesh-consistency").map(|token| token.to_str().unwrap())
    }

    fn failure(response: &Response<Body>) -> (Code, String, Status) {
        let status = failure_of(response.headers()).expect("a failure");
        (status.code(), status.get_details_error_info().unwrap().reason, status)
    }

    #[tokio::test(start_paused = true)]
    async fn own_writes_are_waited_for_before_the_handler_runs() {
        let (server, waits) = server(&["google"]);
        let start = Instant::now();
        assert_eq!(token(&answer(&server, None, None).await), None);
        assert_eq!(token(&answer(&server, Some(""), None).await), None);
        assert_eq!((waits.load(Ordering::Relaxed), start.elapsed()), (0, Duration::ZERO));

        let unknown = CATALOG.replace("catalog", "unknown");
        let answered = answer(&server, Some(&format!("{unknown}, {CATALOG}")), None).await;
        assert!(failure_of(answered.headers()).is_none());
        assert_eq!((token(&answered), start.elapsed()), (None, Duration::from_secs(1)), "it wants no token");
    }

    #[tokio::test(start_paused = true)]
    async fn own_writes_that_a_copy_does_not_have_in_time_are_not_caught_up() {
        let (server, _) = server(&[]);
        let seconds = Duration::from_secs_f64;
        for (left, waited) in [(None, 2.0), (Some(60.0), 2.0), (Some(1.5), 1.35)] {
            let start = Instant::now();
            let refused = answer(&server, Some(&format!("{CATALOG},{NEVER}")), left.map(seconds)).await;
            assert_eq!(start.elapsed(), seconds(waited));
            let (code, reason, status) = failure(&refused);
            assert_eq!((code, &*reason), (Code::Unavailable, "NOT_CAUGHT_UP"));
            let details = status.get_error_details();
            assert_eq!(details.retry_info().unwrap().retry_delay, Some(RETRY));
            assert_eq!(details.error_info().unwrap().metadata["source"], "never");
            assert_eq!(refused.headers()["grpc-retry-pushback-ms"], "500");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn own_writes_with_a_malformed_header_are_refused_without_a_wait() {
        let (server, waits) = server(&[]);
        let mut health = Call::to(WATCH, Body::empty());
        health.request.headers_mut().insert("mesh-consistency", "catalog=7".parse().unwrap());
        let health = server(Call::new(health.method, None, health.request)).await;
        assert!(failure_of(health.headers()).is_none(), "it is about the process");
        let (code, reason, _) = failure(&answer(&server, Some(&format!("{CATALOG}, catalog=7")), None).await);
        assert_eq!((code, &*reason), (Code::InvalidArgument, "MALFORMED_CONSISTENCY"));
        assert_eq!(waits.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn own_writes_are_answered_with_their_token_if_there_is_one_in_time() {
        let nil = uuid::Uuid::nil();
        assert_eq!(token(&answer(&server(&[]).0, Some("want"), None).await), None, "nothing was published");
        let published = answer(&server(&["google", "google"]).0, Some("want"), None).await;
        assert_eq!(token(&published), Some(&*format!("google={nil}.9")));

        let start = Instant::now();
        let late = answer(&server(&["late", "silent", "google"]).0, Some("want"), None).await;
        assert!(failure_of(late.headers()).is_none());
        assert_eq!((token(&late), start.elapsed()), (Some(&*format!("google={nil}.9")), POSITIONS));
        let start = Instant::now();
        let late = answer(&server(&["late"]).0, Some("want"), Some(Duration::from_millis(100))).await;
        assert!(failure_of(late.headers()).is_none());
        assert_eq!((token(&late), start.elapsed()), (None, Duration::from_millis(50)));
    }
}
