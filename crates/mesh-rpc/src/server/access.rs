//! The layer that asks who calls, and refuses those who may not.
//!
//! Guarantees:
//! - A call that is refused starts no handler, and none of its body is read.
//! - A stream ends with the token of its user, UNAUTHENTICATED `TOKEN_EXPIRED`, and when the service that reads it may
//!   no longer call its method, PERMISSION_DENIED `CALLER_NOT_ALLOWED`.

use http::Response;

use super::answer::{Answer, Answered};
use super::request::Arrived;
use crate::auth::Gate;

/// Asks for the caller of every call.
pub(super) struct Access<N> {
    pub(super) next: N,
    pub(super) gate: Gate,
}

impl<N: Answer> Answer for Access<N> {
    async fn answer(&self, mut call: Arrived) -> Response<Answered> {
        let lasts = match self.gate.admit(&mut call).await {
            Ok(lasts) => lasts,
            Err(status) => return status.into_http(),
        };
        let streams = call.method.client_streaming || call.method.server_streaming;
        let Some(lasts) = lasts.filter(|_| streams) else { return self.next.answer(call).await };
        let mut over = Box::pin(lasts.over());
        // A handler that reads a stream may wait before it answers.
        let mut response = tokio::select! {
            response = self.next.answer(call) => response,
            status = &mut over => return status.into_http(),
        };
        response.body_mut().end_with(|| over);
        response
    }
}
