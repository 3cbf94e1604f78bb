//! The other half of a channel: a peer that runs in other processes.
//!
//! A connection is made when it is first needed, kept, and made again when it broke: nothing waits for a peer to start.

use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint as Address};
use tower::{Service as _, ServiceExt as _};

use super::endpoints::Endpoints;
use crate::error::unavailable;
use crate::handler::{Handler, handler};

/// How long to try before an endpoint counts as unreachable, and how long it is left out then.
const CONNECT: Duration = Duration::from_secs(1);
pub(super) const LEFT_OUT: Duration = Duration::from_secs(1);
/// Finds out about an endpoint that vanished without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Calls `service` at one of its endpoints.
pub(super) fn remote(service: &'static str, endpoints: Endpoints) -> Handler {
    handler(move |request| {
        let endpoints = endpoints.clone();
        async move {
            match endpoints.pick().await {
                Some(endpoint) => endpoint.call(service, request).await,
                None => no_endpoints(service).into_http(),
            }
        }
    })
}

/// UNAVAILABLE, reason `NO_ENDPOINTS`: the service is nowhere to be found, and nothing was sent.
pub(super) fn no_endpoints(service: &str) -> Status {
    unavailable("NO_ENDPOINTS", format!("there is no instance of `{service}`"), Duration::from_secs(1))
}

/// One instance, and how it does.
pub(super) struct Endpoint {
    pub(super) authority: Authority,
    pub(super) weight: AtomicU32,
    pub(super) in_flight: AtomicUsize,
    channel: Channel,
    left_out_until: Mutex<Instant>,
}

impl Endpoint {
    pub(super) fn at(authority: Authority) -> Self {
        // An authority behind a scheme is always a URI.
        let uri: http::Uri = format!("http://{authority}").parse().unwrap_or_default();
        let endpoint = Address::from(uri).connect_timeout(CONNECT).tcp_nodelay(true);
        let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
        Self {
            authority,
            weight: AtomicU32::new(1),
            in_flight: AtomicUsize::new(0),
            channel: endpoint.connect_lazy(),
            left_out_until: Mutex::new(Instant::now()),
        }
    }

    async fn call(self: Arc<Self>, service: &str, request: Request<Body>) -> Response<Body> {
        let counted = InFlight::begin(&self);
        let mut channel = self.channel.clone();
        let answered = match channel.ready().await {
            Ok(ready) => ready.call(request).await,
            Err(error) => Err(error),
        };
        match answered {
            Ok(response) => response.map(|body| Body::new(Counted { body, _counted: counted })),
            Err(error) => {
                self.leave_out();
                let message = format!("an instance of `{service}` cannot be reached, or broke off");
                let mut status = unavailable("ENDPOINT_UNREACHABLE", message, Duration::from_millis(100));
                status.set_source(Arc::new(error));
                status.into_http()
            }
        }
    }

    /// From now on for a moment.
    pub(super) fn leave_out(&self) {
        *self.left_out_until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + LEFT_OUT;
    }

    pub(super) fn is_left_out(&self) -> bool {
        *self.left_out_until.lock().unwrap_or_else(PoisonError::into_inner) > Instant::now()
    }
}

/// Counts a call until its last trailer.
struct InFlight(Arc<Endpoint>);

impl InFlight {
    fn begin(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Counted {
    body: Body,
    _counted: InFlight,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
