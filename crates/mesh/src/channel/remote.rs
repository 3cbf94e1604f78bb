//! The other half of a channel: a peer that runs in other processes, at known addresses.
//!
//! A connection is made when it is first needed, kept, and made again when it broke: nothing waits for a peer to start.
//! Of two endpoints chosen by chance, the one with fewer calls in flight is taken ("power of two choices"), which
//! spreads load nearly as well as asking all of them. One that could not be reached is left out for a moment: failing
//! fast, it would otherwise seem to have the least to do, and attract every call.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint as Address};
use tower::{Service as _, ServiceExt as _};

use crate::error::unavailable;
use crate::handler::{Handler, handler};

/// How long to try before an endpoint counts as unreachable, and how long it is left out then.
const CONNECT: Duration = Duration::from_secs(1);
const LEFT_OUT: Duration = Duration::from_secs(1);
/// Finds out about an endpoint that vanished without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Calls `service` at one of `addresses`.
pub(crate) fn remote(service: &'static str, addresses: &[SocketAddr]) -> Handler {
    let endpoints: Arc<[Arc<Endpoint>]> = addresses.iter().map(|address| Arc::new(Endpoint::at(*address))).collect();
    handler(move |request| {
        let picked = pick(&endpoints);
        async move {
            match picked {
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

struct Endpoint {
    channel: Channel,
    in_flight: AtomicUsize,
    left_out_until: Mutex<Instant>,
}

impl Endpoint {
    fn at(address: SocketAddr) -> Self {
        // An address and a port are always a URI.
        let uri: http::Uri = format!("http://{address}").parse().unwrap_or_default();
        let endpoint = Address::from(uri).connect_timeout(CONNECT).tcp_nodelay(true);
        let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(KEEP_ALIVE);
        Self {
            channel: endpoint.connect_lazy(),
            in_flight: AtomicUsize::new(0),
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
                *self.left_out() = Instant::now() + LEFT_OUT;
                let message = format!("an instance of `{service}` cannot be reached, or broke off");
                let mut status = unavailable("ENDPOINT_UNREACHABLE", message, Duration::from_millis(100));
                status.set_source(Arc::new(error));
                status.into_http()
            }
        }
    }

    fn left_out(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.left_out_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of those that are not left out; if all are, one of all: who knows whether they are back.
fn pick(endpoints: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
    let now = Instant::now();
    let reachable: Vec<_> = endpoints.iter().filter(|endpoint| *endpoint.left_out() <= now).collect();
    let choice: Vec<_> = if reachable.is_empty() { endpoints.iter().collect() } else { reachable };
    if choice.is_empty() {
        return None;
    }
    let one = fastrand::usize(..choice.len());
    // Another one, if there is another.
    let other = (one + 1 + fastrand::usize(..choice.len().max(2) - 1)) % choice.len();
    let load = |index: usize| choice[index].in_flight.load(Ordering::Relaxed);
    Some(Arc::clone(choice[if load(other) < load(one) { other } else { one }]))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(in_flight: &[usize]) -> Vec<Arc<Endpoint>> {
        let endpoint = |load: &usize| {
            let endpoint = Endpoint::at(([127, 0, 0, 1], 1).into());
            endpoint.in_flight.store(*load, Ordering::Relaxed);
            Arc::new(endpoint)
        };
        in_flight.iter().map(endpoint).collect()
    }

    #[tokio::test]
    async fn of_two_the_one_with_less_to_do_is_taken() {
        let two = endpoints(&[3, 1]);
        for _ in 0..100 {
            assert!(Arc::ptr_eq(&pick(&two).unwrap(), &two[1]));
        }
        // Of more than two the busiest is never taken, and the others are.
        let three = endpoints(&[0, 5, 0]);
        let picked: Vec<_> = (0..200).map(|_| pick(&three).unwrap()).collect();
        let taken = |index: usize| picked.iter().any(|endpoint| Arc::ptr_eq(endpoint, &three[index]));
        assert!(taken(0) && !taken(1) && taken(2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_reached_is_left_out_for_a_moment() {
        let two = endpoints(&[0, 9]);
        *two[0].left_out() = Instant::now() + LEFT_OUT;
        assert!(Arc::ptr_eq(&pick(&two).unwrap(), &two[1]));
        tokio::time::advance(LEFT_OUT).await;
        assert!(Arc::ptr_eq(&pick(&two).unwrap(), &two[0]));
        // If nothing else is left, it is tried.
        *two[0].left_out() = Instant::now() + LEFT_OUT;
        assert!(pick(&two[..1]).is_some());
        assert!(pick(&[]).is_none());
    }
}
