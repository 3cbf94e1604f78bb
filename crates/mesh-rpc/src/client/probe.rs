//! Health checks of an ejected endpoint, until it is healthy again.
//!
//! The pause before a check doubles. It starts longer for an endpoint that was ejected before.
//!
//! See: decision 0014.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use mesh_proto::grpc::health::v1::HealthCheckRequest;
use mesh_proto::grpc::health::v1::health_check_response::ServingStatus;
use mesh_proto::grpc::health::v1::health_client::HealthClient;
use mesh_runtime::Backoff;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::body::Body;

use super::connections::Unanswered;
use super::endpoint::Endpoint;
use super::http2::Received;

/// The jitter spreads the checks of many callers.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10)).jitter(0.8..1.2);
/// The limit for one check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Reinstates an endpoint that was ejected for calls of `contract`, once it serves that contract. Ends when the
/// endpoint is removed.
pub(super) async fn watch(endpoint: Weak<Endpoint>, contract: &'static str) {
    let Some(ejections) = endpoint.upgrade().map(|endpoint| endpoint.outlier.count_ejection()) else { return };
    for failures in ejections.. {
        sleep(BACKOFF.pause(failures)).await;
        let Some(endpoint) = endpoint.upgrade() else { return };
        if is_healthy(&endpoint, contract).await {
            endpoint.outlier.reinstate();
            return tracing::info!(endpoint = %endpoint.authority, "healthy again: back among those that are called");
        }
    }
}

/// Whether the endpoint reports SERVING, or answers without implementing the check.
async fn is_healthy(endpoint: &Arc<Endpoint>, contract: &'static str) -> bool {
    let mut health = HealthClient::new(untracked(endpoint));
    let request = HealthCheckRequest { service: contract.to_owned() };
    match timeout(CHECK_TIMEOUT, health.check(request)).await {
        Ok(Ok(answer)) => answer.get_ref().status() == ServingStatus::Serving,
        Ok(Err(status)) => matches!(status.code(), Code::Unimplemented | Code::NotFound),
        Err(_) => false,
    }
}

/// Sends over the endpoint's connections without counting load or outcome.
fn untracked(
    endpoint: &Arc<Endpoint>,
) -> impl tower::Service<Request<Body>, Response = Response<Received>, Error = Unanswered, Future: Send> + use<> {
    let endpoint = Arc::clone(endpoint);
    tower::service_fn(move |mut request: Request<Body>| {
        let endpoint = Arc::clone(&endpoint);
        async move {
            *request.uri_mut() = endpoint.absolute_uri(request.uri());
            endpoint.connections.send(&mut request).await
        }
    })
}
