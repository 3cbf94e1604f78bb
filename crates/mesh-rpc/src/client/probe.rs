//! Takes back an ejected endpoint when it is healthy: health checks in the background, so that no caller's request is the
//! trial. The pause before a check doubles, and begins longer for an endpoint that was ejected before.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use mesh_runtime::Backoff;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::body::Body;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::connections::Unanswered;
use super::endpoint::Endpoint;

/// Not all callers of an instance check it at the same time.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10)).jitter(0.8..1.2);
/// How long a check may take.
const ANSWER: Duration = Duration::from_secs(1);

/// Takes back an endpoint that was ejected for calls of `contract`, when that is served again. Ends with the endpoint.
pub(super) async fn watch(endpoint: Weak<Endpoint>, contract: &'static str) {
    let Some(ejections) = endpoint.upgrade().map(|endpoint| endpoint.outlier.ejections()) else { return };
    for failures in ejections.. {
        sleep(BACKOFF.pause(failures)).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        if is_healthy(&endpoint, contract).await {
            endpoint.outlier.reinstate();
            return tracing::info!(endpoint = %endpoint.authority, "healthy again: the endpoint is called");
        }
    }
}

/// Whether the endpoint says so, or serves without knowing the question.
async fn is_healthy(endpoint: &Arc<Endpoint>, contract: &'static str) -> bool {
    let mut health = HealthClient::new(uncounted(endpoint));
    let question = HealthCheckRequest { service: contract.to_owned() };
    match timeout(ANSWER, health.check(question)).await {
        Ok(Ok(answer)) => answer.get_ref().status() == ServingStatus::Serving,
        Ok(Err(status)) => matches!(status.code(), Code::Unimplemented | Code::NotFound),
        Err(_) => false,
    }
}

/// Sends over the endpoint's connections; neither load nor outcome is counted.
fn uncounted(
    endpoint: &Arc<Endpoint>,
) -> impl tower::Service<Request<Body>, Response = Response<Incoming>, Error = Unanswered, Future: Send> + use<> {
    let endpoint = Arc::clone(endpoint);
    tower::service_fn(move |mut request: Request<Body>| {
        let endpoint = Arc::clone(&endpoint);
        async move {
            *request.uri_mut() = endpoint.locate(request.uri());
            endpoint.connections.send(request).await.map(|(response, _)| response)
        }
    })
}
