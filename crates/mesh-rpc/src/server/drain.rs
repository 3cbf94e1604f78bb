//! The layer that ends streams, at a drain of the process or at the age of a connection.
//!
//! Guarantees:
//! - A stream of responses whose head is sent ends with UNAVAILABLE, `STREAM_DRAINING`. The client may resume it at
//!   once, at another instance if there is one. A handler that has not answered yet has until the limit of the drain.
//! - Unary calls may finish, within the limit of the drain (INV-9).
//!
//! Does not: notify a client that has stopped reading. The limit of the drain cuts it off.

use http::Response;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Answered};
use super::request::Arrived;
use crate::call::error;

/// Ends streams when `draining` is cancelled, or when their connection ends them.
pub(super) struct Drain<N> {
    pub(super) next: N,
    pub(super) draining: CancellationToken,
}

impl<N: Answer> Answer for Drain<N> {
    async fn answer(&self, call: Arrived) -> Response<Answered> {
        let connection = call.connection.clone().filter(|_| call.method.server_streaming);
        let mut response = self.next.answer(call).await;
        response.body_mut().end_with(|| {
            let draining = self.draining.clone();
            async move {
                let aged = async {
                    match &connection {
                        Some(connection) => connection.ended().await,
                        // A call in memory has no connection.
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = draining.cancelled() => error::draining("this instance is shutting down"),
                    () = aged => error::draining("this connection has reached its age"),
                }
            }
        });
        response
    }
}
