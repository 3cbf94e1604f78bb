//! A drain ends every stream: a client that keeps Health/Watch or reflection open must not keep the process.
//!
//! Calls that answer once are left to finish, within the drain's limit. Streams could go on for ever, so they are ended
//! at once with UNAVAILABLE and the invitation to come back: by then another instance answers.

use std::convert::Infallible;
use std::time::Duration;

use http::{Request, Response};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use crate::body::EndedBy;
use crate::{contract, error};

/// Ends the streams that come through it when the token is cancelled.
#[derive(Clone)]
pub(crate) struct EndStreams<S> {
    draining: CancellationToken,
    inner: S,
}

impl<S> EndStreams<S> {
    pub(crate) fn new(draining: CancellationToken, inner: S) -> Self {
        Self { draining, inner }
    }
}

impl<S> Service<Request<Body>> for EndStreams<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let streaming = contract::method(request.uri().path()).server_streaming;
        let call = self.inner.call(request);
        if !streaming {
            return Box::pin(call);
        }
        let draining = self.draining.clone();
        Box::pin(async move {
            let response = call.await?;
            Ok(response.map(|body| {
                EndedBy::wrap(body, async move {
                    draining.cancelled_owned().await;
                    drained()
                })
            }))
        })
    }
}

/// UNAVAILABLE, reason `STREAM_DRAINING`: come back at once, to another instance or to this one started anew.
fn drained() -> Status {
    error::unavailable("STREAM_DRAINING", "this instance is shutting down", Duration::from_millis(100))
}
