//! Retries a failed operation: starts a new operation of the same kind with the same input. Resumes a saga that is
//! stuck: the same operation goes on.
//!
//! The failed operation stays as it is, since a done operation never changes. Its input is kept until it is deleted.
//! Operations that succeeded or were cancelled keep no input.

use std::time::Duration;

use mesh_feed::notifier::Key;
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::operation_control_service_server::OperationControlService;
use mesh_proto::mesh::operations::v1::{Change, Phase, ResumeRequest, RetryRequest, State};
use mesh_rpc::call::error::{DOMAIN, invalid_fields, status};
use mesh_rpc::call::{Context, Violations};
use mesh_store::request_hash;
use tonic::{Code, Request, Response, Status, async_trait};

use super::api::{Api, shown};
use super::changes::New;
use super::records::Records;
use super::row::Row;
use super::{name, outcome, steps};

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
        // The cause is that of the failed operation, not of the call that retries it.
        let cause = row.cause();
        let phase = if row.is_saga() { Phase::Forward } else { Phase::Unspecified };
        let new = New {
            caller: row.caller,
            kind: row.kind,
            request_id,
            request_hash: request_hash("Retry", request_id, &request),
            input,
            trace: Context::current().trace,
            cause,
            // The same time as the failed operation had.
            deadline: Duration::from_micros(u64::try_from(row.deadline_at - row.created).unwrap_or_default()),
            phase,
        };
        Ok(Response::new(operations.start_or_find(new).await?))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<Operation>, Status> {
        let name = request.into_inner().name;
        let (operations, _, row) = self.find(&name).await?;
        let not_stuck = || {
            let message = format!("{name} is not stuck; only a saga that is stuck can be resumed");
            status(Code::FailedPrecondition, DOMAIN, "OPERATION_NOT_STUCK", message)
        };
        let resume = |row: Option<&mut Row>, now| {
            // A repeat, whose first answer may be lost, finds a saga that goes on.
            let Some(row) = row.filter(|row| row.stuck) else { return Ok(None) };
            outcome::resume(row, now);
            Ok(Some(Change::State))
        };
        let row = operations.batcher.edit(row.id, 0, resume).await?.ok_or_else(|| name::unknown(&name))?;
        if row.is_done() || !row.is_saga() {
            return Err(not_stuck());
        }
        let Records { service, notifier, .. } = &operations.records;
        notifier.notify(&Key::Work(service, row.kind.clone()));
        Ok(Response::new(shown(&operations, &row).await?))
    }
}
