//! A drain ends every stream: a client that keeps Health/Watch or reflection open must not keep the process.
//!
//! Calls that answer once are left to finish, within the drain's limit. Streams could go on for ever, so they are ended
//! at once with UNAVAILABLE and the invitation to come back: by then another instance answers. A client that has
//! stopped reading cannot be told anything; it is cut off at the limit.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::body::EndedBy;
use crate::handler::{Handler, handler};
use crate::{contract, error};

/// Ends the streams that come through it when `draining` is cancelled.
pub(crate) fn end_streams(next: Handler, draining: CancellationToken) -> Handler {
    handler(move |request| {
        let streaming = contract::method(request.uri().path()).server_streaming;
        let answering = next(request);
        let draining = draining.clone();
        async move {
            let response = answering.await;
            if !streaming {
                return response;
            }
            let drained = async move {
                draining.cancelled_owned().await;
                drained()
            };
            response.map(|body| EndedBy::wrap(body, drained))
        }
    })
}

/// UNAVAILABLE, reason `STREAM_DRAINING`: come back at once, to another instance or to this one started anew.
fn drained() -> Status {
    error::unavailable("STREAM_DRAINING", "this instance is shutting down", Duration::from_millis(100))
}
