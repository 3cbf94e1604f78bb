//! The context of a call: its deadline, its trace, its caller, its cause, and the consistency that its caller asks for.
//!
//! The server sets the [`Context`] for the handler. The client reads it when the handler calls a peer, so a deadline, a
//! trace and a cause reach the last hop without code in a service. The context is local to the task: work that a
//! handler spawns outlives the call and does not inherit its deadline.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue};
use mesh_proto::mesh::events::v1::Event;
use tokio::time::Instant;

use super::caller::Caller;
use super::cause::Cause;
use super::consistency::Consistency;
use super::method::Method;
use super::trace::Trace;
use super::trace_state::read_trace_state;

tokio::task_local! {
    static CURRENT: Context;
}

/// The context of a call.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// The method of the call that is served. `None` outside of a call, as in long-running work.
    pub method: Option<&'static Method>,
    /// When the caller stops waiting. `None` if the caller set no deadline.
    pub deadline: Option<Instant>,
    /// The position of the call in its trace.
    pub trace: Trace,
    /// The `tracestate` header, forwarded unchanged.
    pub trace_state: Option<HeaderValue>,
    /// The caller.
    pub caller: Caller,
    /// What caused the call. `None` for a call that begins something: its trace is the cause.
    pub cause: Option<Cause>,
    /// The header `mesh-consistency`. `None` for a call without it.
    pub consistency: Option<Consistency>,
    /// The peer that answered last.
    pub answers: PeerAnswers,
}

/// The method of the last peer whose answer the handler began to read. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PeerAnswers(Arc<Mutex<Option<PathAndQuery>>>);

impl PeerAnswers {
    pub(super) fn record(&self, path: PathAndQuery) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
    }

    fn last(&self) -> Option<PathAndQuery> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Context {
    /// The context of the call that this task handles. Outside of a call: no deadline, a new trace, an anonymous
    /// caller.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// The context in which the effects of an event are applied: it continues the trace of the event, which is the
    /// cause of what is published, started and called in it. A snapshot is no cause.
    pub fn of_event(event: &Event) -> Self {
        let trace = Trace::parse(&event.traceparent).map_or_else(Trace::begin, Trace::child);
        let ids = event.id.parse().ok().zip(event.correlation_id.parse().ok());
        let hops = u32::try_from(event.hops).unwrap_or_default();
        Self { trace, cause: ids.map(|(id, correlation)| Cause::event(id, correlation, hops)), ..Self::default() }
    }

    /// The trace of this task and the cause of what it does; `None` outside of a call and of work.
    pub fn cause() -> Option<(Trace, Cause)> {
        let cause = |context: &Self| (context.trace, context.cause.unwrap_or_else(|| Cause::first(context.trace)));
        CURRENT.try_with(cause).ok()
    }

    /// Notes that this task has committed events of `service`, for a caller that wants a token of them.
    pub fn note_published(service: &'static str) {
        if let Some(asked) = Self::wanted() {
            asked.note_published(service);
        }
    }

    /// What the caller of this task asks for, if it wants a token.
    pub fn wanted() -> Option<Consistency> {
        let wanted = |context: &Self| context.consistency.clone().filter(Consistency::wants);
        CURRENT.try_with(wanted).ok().flatten()
    }

    /// The time left until the deadline; zero if it has passed, `None` if there is none.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// The caller of the call that this task handles; anonymous outside of a call.
    pub fn caller() -> Caller {
        CURRENT.try_with(|context| context.caller.clone()).unwrap_or_default()
    }

    /// The context of a call that arrives now, in the trace of its caller, and the caller's span.
    pub(super) fn of_call(method: &'static Method, headers: &HeaderMap) -> (Self, Option<NonZeroU64>) {
        let caller = Trace::from_headers(headers);
        let context = Self {
            method: Some(method),
            deadline: None,
            trace: caller.map_or_else(Trace::begin, Trace::child),
            trace_state: caller.and_then(|_| read_trace_state(headers)),
            caller: Self::caller(),
            cause: Cause::from_headers(headers),
            consistency: Consistency::from_headers(headers),
            answers: PeerAnswers::default(),
        };
        (context, caller.and_then(|caller| NonZeroU64::new(caller.span_id)))
    }

    /// The method and the trace of the call that this task serves; `None` outside of a call.
    pub(crate) fn served() -> Option<(&'static Method, Trace)> {
        CURRENT.try_with(|context| Some((context.method?, context.trace))).ok().flatten()
    }

    /// The method of the last peer that answered a call of this task; `None` if none did.
    pub(super) fn peer_that_answered() -> Option<PathAndQuery> {
        CURRENT.try_with(|context| context.answers.last()).ok().flatten()
    }

    /// Runs a future in this context.
    pub fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self, future)
    }

    /// Runs a function in this context.
    pub fn enter<T>(self, work: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn context_of_spawned_work_has_no_deadline() {
        let context = Context { deadline: Some(Instant::now()), ..Context::default() };
        context
            .scope(async {
                assert!(Context::current().deadline.is_some());
                let spawned = tokio::spawn(async { Context::current().deadline });
                assert!(spawned.await.unwrap().is_none());
            })
            .await;
    }

    #[tokio::test]
    async fn context_of_an_event_has_it_as_its_cause() {
        assert_eq!(Context::cause(), None);
        let first = Context::default();
        let (trace, cause) = first.clone().enter(|| Context::cause().unwrap());
        assert_eq!((trace, cause), (first.trace, Cause::first(first.trace)));

        let event = Event {
            id: "01890a5d-ac96-774b-bcce-b302099a8057".to_owned(),
            traceparent: trace.to_string(),
            correlation_id: cause.correlation.to_string(),
            hops: 3,
            ..Event::default()
        };
        let (within, cause) = Context::of_event(&event).enter(|| Context::cause().unwrap());
        assert_eq!((within.trace_id, cause.correlation, cause.hops), (trace.trace_id, first_correlation(&first), 4));
        assert_eq!(cause.causation.unwrap().to_string(), event.id);

        let snapshot = Context::of_event(&Event::default());
        assert_eq!((snapshot.cause, snapshot.trace == trace), (None, false));
    }

    fn first_correlation(context: &Context) -> uuid::Uuid {
        Cause::first(context.trace).correlation
    }
}
