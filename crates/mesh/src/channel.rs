//! How a service calls a peer: one cheap-to-clone channel under every typed client, wherever the peer runs.
//!
//! This is the local half: the peer lives in this process, and the call goes through the same layers as one from the
//! network, without a socket. What the caller gives a call is the same, too: a deadline, never later than that of the
//! call it is itself serving, and the trace it is part of. Nothing is spawned for a call, so a caller that goes away
//! stops its peer's work by dropping it, exactly as a reset stream does over the network.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use crate::context::Context;
use crate::error::unavailable;
use crate::serve::{Handler, deadline};

/// Kept back at every hop, so that the callee gives up first and its answer still arrives.
const MARGIN: Duration = Duration::from_millis(5);

/// The services that can be called from this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Shared>);

struct Shared {
    local: BTreeSet<&'static str>,
    /// Set once everything is built: services hold channels to each other before any of them is there.
    stack: OnceLock<Handler>,
    call_deadline: Duration,
}

impl Peers {
    pub(crate) fn new(local: BTreeSet<&'static str>, call_deadline: Duration) -> Self {
        Self(Arc::new(Shared { local, stack: OnceLock::new(), call_deadline }))
    }

    /// From now on calls are answered.
    pub(crate) fn ready(&self, stack: Handler) {
        // A second stack would be a second `start` of the same peers, and there is none.
        let _ = self.0.stack.set(stack);
    }

    pub(crate) fn channel(&self, service: &'static str) -> Channel {
        Channel { service, shared: Arc::downgrade(&self.0) }
    }
}

/// Calls one service of the mesh: `CatalogServiceClient::new(channel)`. Cheap to clone.
///
/// # Errors
///
/// What the peer answers, and of its own: UNAVAILABLE with reason `NO_ENDPOINTS` if the service is nowhere to be found
/// (nothing was sent; the caller may retry), DEADLINE_EXCEEDED when the call's time is over (whether the peer did its
/// work is not known; retry only what is idempotent).
#[derive(Clone)]
pub struct Channel {
    service: &'static str,
    /// Weak, for what is shared holds the services, and they hold channels.
    shared: Weak<Shared>,
}

impl Channel {
    fn stack(&self, shared: Option<&Shared>) -> Result<Handler, Status> {
        let stack = shared.filter(|shared| shared.local.contains(self.service)).and_then(|shared| shared.stack.get());
        stack.cloned().ok_or_else(|| {
            let message = format!("there is no instance of `{}`", self.service);
            unavailable("NO_ENDPOINTS", message, Duration::from_secs(1))
        })
    }

    /// The stack to call, and the time for it: what the request asks for, what is left of the call being served, or the
    /// default.
    fn prepare(&self, request: &Request<Body>, context: &Context) -> Result<(Handler, Duration), Status> {
        let shared = self.shared.upgrade();
        let stack = self.stack(shared.as_deref())?;
        let default = shared.map_or(Duration::ZERO, |shared| shared.call_deadline);
        let asked = deadline::read_timeout(request.headers())?;
        let left = context.remaining().map(|left| left.saturating_sub(MARGIN));
        Ok((stack, asked.into_iter().chain(left).min().unwrap_or(default)))
    }
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let context = Context::current();
        let (stack, budget) = match self.prepare(&request, &context) {
            Ok(prepared) => prepared,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        deadline::write_timeout(request.headers_mut(), budget);
        context.trace.write(request.headers_mut());
        Box::pin(async move {
            // The peer enforces it as well; this is for the one that does not answer.
            let answer = timeout(budget, stack(request)).await;
            Ok(answer.unwrap_or_else(|_| deadline::exceeded().into_http()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::{GrpcService, stack};
    use crate::telemetry::Metrics;
    use std::collections::HashMap;
    use tokio::time::Instant;
    use tonic::Code;
    use tower::Service as _;

    /// A mesh in which `echo` answers with the headers it got, after a while; `panic` does what it says.
    fn peers() -> Peers {
        let echo = tower::service_fn(|request: Request<Body>| async move {
            if request.uri().path().ends_with("/Panic") {
                panic!("on purpose");
            }
            let wait = request.headers().get("wait").map_or(0, |wait| wait.to_str().unwrap().parse().unwrap());
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let mut response = Status::ok("").into_http::<Body>();
            response.headers_mut().extend(request.headers().clone());
            Ok::<_, Infallible>(response)
        });
        let peers = Peers::new(BTreeSet::from(["echo"]), Duration::from_secs(10));
        let services = HashMap::from([("echo.v1.Echo", GrpcService::new(echo))]);
        peers.ready(stack(services, Metrics::new(), tokio_util::sync::CancellationToken::new()));
        peers
    }

    async fn call(service: &'static str, method: &str, headers: &[(&'static str, &'static str)]) -> Response<Body> {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = format!("http://mesh/echo.v1.Echo/{method}").parse().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let peers = peers();
        peers.channel(service).call(request).await.unwrap()
    }

    fn code(response: &Response<Body>) -> Code {
        Status::from_header_map(response.headers()).unwrap().code()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_without_a_deadline_gets_the_default() {
        let start = Instant::now();
        let response = call("echo", "Wait", &[("wait", "3600000")]).await;
        assert_eq!(code(&response), Code::DeadlineExceeded);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_of_a_deadline_travels_on_less_a_margin() {
        let deadline = Some(Instant::now() + Duration::from_secs(2));
        let context = Context { deadline, ..Context::default() };
        let response = context.scope(call("echo", "Now", &[("grpc-timeout", "1H")])).await;
        assert_eq!(response.headers()["grpc-timeout"], "1995000u");
        let response = context.scope(call("echo", "Now", &[("grpc-timeout", "500m")])).await;
        assert_eq!(response.headers()["grpc-timeout"], "500000u");
    }

    #[tokio::test]
    async fn the_trace_travels_on() {
        let context = Context::default();
        let response = context.scope(call("echo", "Now", &[])).await;
        let sent = response.headers()["traceparent"].to_str().unwrap();
        assert!(sent.contains(&context.trace.trace_id().to_string()), "{sent}");
    }

    #[tokio::test]
    async fn a_service_that_is_nowhere_fails_fast_by_name() {
        let response = call("billing", "Now", &[]).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("billing"), "{status}");
    }

    #[tokio::test]
    async fn a_panic_of_the_peer_is_an_answer() {
        assert_eq!(code(&call("echo", "Panic", &[]).await), Code::Internal);
    }
}
