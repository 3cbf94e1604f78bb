//! The layer that ends streams, at a drain of the process or at the age of a connection.
//!
//! Guarantees:
//! - A stream of responses whose head is sent ends with UNAVAILABLE, `STREAM_DRAINING`. The client may resume it at
//!   once, at another instance if there is one. A handler that has not answered yet has until the limit of the drain.
//! - Unary calls may finish, within the limit of the drain (INV-9).
//!
//! Does not: notify a client that has stopped reading. The limit of the drain cuts it off.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::connection::Connection;
use crate::call::body::take_until;
use crate::call::{Handler, error, handler};

/// Ends streams when `draining` is cancelled, or when their connection ends them.
pub(super) fn end_streams(next: Handler, draining: CancellationToken) -> Handler {
    handler(move |call| {
        let streaming = call.method.server_streaming;
        // A call in memory has no connection.
        let ending = call.request.extensions().get().map(|connection: &Connection| connection.ending.clone());
        let answering = next(call);
        let draining = draining.clone();
        async move {
            let response = answering.await;
            if !streaming {
                return response;
            }
            let ended = async move {
                tokio::select! {
                    () = draining.cancelled_owned() => draining_status("this instance is shutting down"),
                    () = ending.unwrap_or_default().cancelled_owned() => draining_status("this connection has reached its age"),
                }
            };
            response.map(|body| take_until(body, ended))
        }
    })
}

/// UNAVAILABLE, reason `STREAM_DRAINING`: the client may resume at once, at another instance or over another
/// connection.
fn draining_status(message: &str) -> Status {
    error::unavailable("STREAM_DRAINING", message, Duration::from_millis(100))
}
