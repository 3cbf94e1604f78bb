//! A drain ends every stream: a client that keeps Health/Watch or reflection open must not keep the process. And a
//! connection that has grown old ends its own, for the same reason.
//!
//! Calls that answer once are left to finish, within the drain's limit. Streams could go on for ever, so they are ended
//! at once with UNAVAILABLE and the invitation to come back: by then another instance answers. A client that has
//! stopped reading cannot be told anything; it is cut off at the limit.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::connection::Connection;
use crate::call::body::take_until;
use crate::call::{Handler, error, handler};

/// Ends the streams that come through it when `draining` is cancelled, or when their connection has to end.
pub(super) fn end_streams(next: Handler, draining: CancellationToken) -> Handler {
    handler(move |call| {
        let streaming = call.method.server_streaming;
        // In memory there is no connection, and nothing that ends one.
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
                    () = draining.cancelled_owned() => come_back("this instance is shutting down"),
                    () = ending.unwrap_or_default().cancelled_owned() => come_back("this connection has grown old"),
                }
            };
            response.map(|body| take_until(body, ended))
        }
    })
}

/// UNAVAILABLE, reason `STREAM_DRAINING`: come back at once, to another instance or over another connection.
fn come_back(why: &str) -> Status {
    error::unavailable("STREAM_DRAINING", why, Duration::from_millis(100))
}
