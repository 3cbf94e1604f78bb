//! Retries a failed operation: starts a new operation of the same kind with the same input.
//!
//! The failed operation stays as it is, since a done operation never changes. Its input is kept until it is deleted.
//! Operations that succeeded or were cancelled keep no input.

use std::time::Duration;

use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_control_service_server::OperationControlService;
use mesh_proto::mesh::operations::v1::{RetryRequest, State};
use mesh_rpc::call::error::{DOMAIN, invalid_fields, status};
use mesh_rpc::call::{Context, Violations};
use mesh_store::request_hash;
use tonic::{Code, Request, Response, Status, async_trait};

use super::api::Api;
use super::changes::New;
use super::{name, steps};

#[async_trait]
impl OperationControlService for Api {
    async fn retry(&self, request: Request<RetryRequest>) -> Result<Response<Operation>, Status> {
        let mut request = request.into_inner();
        let mut bad = Violations::default();
        if let Some(name) = name::parse(&request.name, &mut bad) {
            request.name = name::format(name.service, name.id);
        }
        let request_id = bad.uuid(&request.request_id, "request_id");
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;

        let (operations, _, row) = self.find(&request.name).await?;
        let input = steps::input(operations.records.store.reader(), row.id).await?;
        let Some(input) = input.filter(|_| row.state == State::Failed) else {
            let message = format!("{} has not failed; only a failed operation can be retried", request.name);
            return Err(status(Code::FailedPrecondition, DOMAIN, "OPERATION_NOT_FAILED", message));
        };
        let new = New {
            caller: row.caller,
            kind: row.kind,
            request_id,
            request_hash: request_hash("Retry", request_id, &request),
            input,
            trace: Context::current().trace,
            // The same time as the failed operation had.
            deadline: Duration::from_micros(u64::try_from(row.deadline_at - row.created).unwrap_or_default()),
        };
        Ok(Response::new(operations.start_or_find(new).await?))
    }
}
