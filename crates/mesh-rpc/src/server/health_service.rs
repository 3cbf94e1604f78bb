//! `grpc.health.v1.Health`: the health checking protocol of gRPC.
//!
//! See [its specification](https://github.com/grpc/grpc/blob/master/doc/health-checking.md).

use std::pin::Pin;

use futures_util::{Stream, stream};
use mesh_proto::grpc::health::v1::health_check_response::ServingStatus as Status;
use mesh_proto::grpc::health::v1::health_server::{Health as Contract, HealthServer, SERVICE_NAME};
use mesh_proto::grpc::health::v1::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use tonic::{Code, Request, Response};

use super::health::Health;
use crate::call::error::{DOMAIN, status};
use crate::call::{GrpcServices, add};

/// The full name of the service.
pub const NAME: &str = SERVICE_NAME;

/// Adds the service, which shows `health`, to the services of a process.
pub fn serve(health: &Health, grpc: &mut GrpcServices) {
    add(grpc, HealthServer::new(HealthService(health.clone())));
}

struct HealthService(Health);

#[tonic::async_trait]
impl Contract for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, tonic::Status> {
        let ready = self.0.serves(&request.get_ref().service).ok_or_else(|| {
            let message = "this process does not serve this service; reflection lists what it serves";
            status(Code::NotFound, DOMAIN, "UNKNOWN_SERVICE", message)
        })?;
        Ok(response(Some(ready)).into())
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, tonic::Status> {
        let names = self.0.contracts().chain([""]);
        let statuses = names.map(|name| (name.to_owned(), response(self.0.serves(name)))).collect();
        Ok(HealthListResponse { statuses }.into())
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, tonic::Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, tonic::Status> {
        let contract = request.into_inner().service;
        let (health, changes) = (self.0.clone(), self.0.changes());
        let statuses = stream::unfold((health, changes, None), move |(health, mut changes, last)| {
            let contract = contract.clone();
            async move {
                loop {
                    changes.mark_unchanged();
                    let now = health.serves(&contract);
                    if last != Some(now) {
                        return Some((Ok(response(now)), (health, changes, Some(now))));
                    }
                    changes.changed().await.ok()?;
                }
            }
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

/// `None`: the process does not serve the service.
fn response(ready: Option<bool>) -> HealthCheckResponse {
    let status = match ready {
        Some(true) => Status::Serving,
        Some(false) => Status::NotServing,
        None => Status::ServiceUnknown,
    };
    HealthCheckResponse { status: status.into() }
}
