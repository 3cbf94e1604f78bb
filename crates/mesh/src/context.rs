//! What travels with a call: until when it is wanted, and which trace it belongs to.
//!
//! The server's layers put a [`Context`] around the handler; [`crate::channel`] reads it when the handler calls a peer,
//! and so a deadline and a trace reach the last hop without a service ever passing them on. It is a task-local on
//! purpose: work that a handler spawns outlives the call, and must not inherit a deadline that was meant for it.

mod timeout;
mod trace;

use std::pin::Pin;
use std::task;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;
use tonic::body::Body;

pub(crate) use timeout::{read_timeout, write_timeout};
pub use trace::Trace;
pub(crate) use trace::{read_trace_state, write_trace_state};

tokio::task_local! {
    static CURRENT: Context;
}

/// What travels with a call.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// When the caller stops waiting; `None` if it never said.
    pub deadline: Option<Instant>,
    /// Which trace the call belongs to.
    pub trace: Trace,
    /// What tracing systems have noted of that trace for themselves. It is passed on as it came.
    pub(crate) trace_state: Option<HeaderValue>,
}

impl Context {
    /// The context of the call that this task is handling; empty outside of one.
    pub fn current() -> Self {
        CURRENT.try_with(Clone::clone).unwrap_or_default()
    }

    /// How much time is left, if there is a limit.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(crate) async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The same for what a handler streams.
    pub(crate) fn scope_body(self, body: Body) -> Body {
        Body::new(Scoped { context: self, body })
    }
}

/// A header that is another one with every call. Marked as what HTTP/2 calls sensitive it is not put into the table of
/// the connection's recent headers, from which it would only drive those that come again.
fn insert_once(headers: &mut HeaderMap, name: &'static str, value: String) {
    // Digits, letters and dashes only: always a valid header.
    if let Ok(mut value) = HeaderValue::try_from(value) {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
}

/// A body that is made within a context.
struct Scoped {
    context: Context,
    body: Body,
}

impl http_body::Body for Scoped {
    type Data = bytes::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
    ) -> task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, tonic::Status>>> {
        let Self { context, body } = &mut *self;
        CURRENT.sync_scope(context.clone(), || Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn spawned_work_does_not_inherit_the_deadline() {
        let context = Context { deadline: Some(Instant::now()), ..Context::default() };
        context
            .scope(async {
                assert!(Context::current().deadline.is_some());
                let spawned = tokio::spawn(async { Context::current().deadline });
                assert!(spawned.await.unwrap().is_none());
            })
            .await;
    }
}
