//! Serves `google.longrunning.Operations` and `OperationEventsService`, once for all services of a process.
//!
//! The name of an operation names its service, and the API routes each call to that service. `control` implements the
//! third contract, `OperationControlService`.
//!
//! See: docs/operate/operations.md

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mesh_feed::cursor::{FeedCursor, SubjectCursor};
use mesh_feed::encoded::Frames;
use mesh_feed::epoch::epoch;
use mesh_feed::notifier::Key;
use mesh_proto::google::longrunning::operations_server::{self, OperationsServer};
use mesh_proto::google::longrunning::{
    CancelOperationRequest, DeleteOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse,
    Operation, WaitOperationRequest,
};
use mesh_proto::mesh::operations::v1::operation_control_service_server::{self, OperationControlServiceServer};
use mesh_proto::mesh::operations::v1::operation_events_service_server;
use mesh_proto::mesh::operations::v1::{Change, Phase, Progress, State, SubscribeRequest, WatchRequest};
use mesh_rpc::call::error::{DOMAIN, invalid_fields, status};
use mesh_rpc::call::page::Page;
use mesh_rpc::call::{Context, GrpcServices, Violations, add};
use mesh_store::Error;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, async_trait};
use uuid::Uuid;

use super::events::{Events, Streams};
use super::filter::Filter;
use super::list::{self, PagePosition};
use super::operations::Operations;
use super::records::Records;
use super::row::{Row, with_steps};
use super::subscribe::{self, SubscribeOptions};
use super::watch::{self, WatchOptions};
use super::{changes, name, outcome, saga_steps};

/// Wait answers this long before the caller's deadline, so that the answer arrives in time.
const MARGIN: Duration = Duration::from_millis(50);
/// The longest wait of one call of Wait. A caller that waits longer calls again, or watches.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The full names of the gRPC services that [`serve`] adds.
pub const CONTRACTS: [&str; 3] = [
    operations_server::SERVICE_NAME,
    operation_control_service_server::SERVICE_NAME,
    operation_events_service_server::SERVICE_NAME,
];

/// Adds the contracts of operations to `grpc`, for all services in `all`. Wait returns early once `draining` is
/// cancelled.
///
/// # Errors
///
/// As for any transaction: the epoch of each database is read.
pub async fn serve(all: Vec<Operations>, grpc: &mut GrpcServices, draining: CancellationToken) -> Result<(), Error> {
    let mut services = HashMap::new();
    for operations in all {
        let epoch = epoch(&operations.records.store).await?;
        services.insert(operations.records.service, (operations, epoch));
    }
    let api = Api { services: Arc::new(services), draining };
    add(grpc, OperationsServer::new(api.clone()));
    add(grpc, OperationControlServiceServer::new(api.clone()));
    add(grpc, Events(api));
    Ok(())
}

#[derive(Clone)]
pub(super) struct Api {
    /// By service, with the epoch of its database.
    services: Arc<HashMap<&'static str, (Operations, Uuid)>>,
    draining: CancellationToken,
}

impl Api {
    /// The service that a request names.
    fn service(&self, name: &str) -> Result<&(Operations, Uuid), Status> {
        self.services.get(name).ok_or_else(|| {
            let message = format!("the service `{name}` does no long work in this process");
            status(Code::NotFound, DOMAIN, "SERVICE_NOT_FOUND", message)
        })
    }

    /// The operation that a request names.
    pub(super) async fn find(&self, name: &str) -> Result<(Operations, Uuid, Row), Status> {
        let mut bad = Violations::default();
        let Some(parsed) = name::parse(name, &mut bad) else { return Err(invalid_fields(DOMAIN, bad)) };
        let (operations, epoch) = self.services.get(parsed.service).ok_or_else(|| name::unknown(name))?;
        let row = operations.records.get(&Context::caller(), parsed.id).await?;
        Ok((operations.clone(), *epoch, row.ok_or_else(|| name::unknown(name))?))
    }
}

/// An operation with the steps of its saga.
pub(super) async fn shown(operations: &Operations, row: &Row) -> Result<Operation, Error> {
    let Records { service, store, .. } = &operations.records;
    let operation = row.to_operation(service);
    Ok(if row.is_saga() { with_steps(operation, &saga_steps::shown(store, row.id).await?) } else { operation })
}

#[async_trait]
impl operations_server::Operations for Api {
    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        let service = name::parse_parent("name", &request.name, &mut bad).unwrap_or_default();
        let filter = Filter::parse(&request.filter, &mut bad);
        let page = Page::<PagePosition>::read(request.page_size, &request.page_token, &mut bad);
        let identity = list::identity(&request);
        PagePosition::check(page.after, identity, &mut bad);
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        let (operations, _) = self.service(service)?;
        let before = page.after.map(|position| position.id);
        let rows = list::list(&operations.records, &Context::caller(), &filter, before, page.fetch()).await?;
        let (rows, next_page_token) = page.cut(rows, |row| PagePosition::new(row.id, identity));
        let operations = rows.iter().map(|row| row.to_listed_operation(operations.records.service)).collect();
        Ok(Response::new(ListOperationsResponse { operations, next_page_token }))
    }

    async fn get_operation(&self, request: Request<GetOperationRequest>) -> Result<Response<Operation>, Status> {
        let (operations, _, row) = self.find(&request.get_ref().name).await?;
        Ok(Response::new(shown(&operations, &row).await?))
    }

    async fn delete_operation(&self, request: Request<DeleteOperationRequest>) -> Result<Response<()>, Status> {
        let name = &request.get_ref().name;
        let mut bad = Violations::default();
        let Some(parsed) = name::parse(name, &mut bad) else { return Err(invalid_fields(DOMAIN, bad)) };
        // A call that reached a process without the service must not seem to have deleted anything.
        let (operations, _) = self.service(parsed.service)?;
        let store = &operations.records.store;
        let row = operations.records.get(&Context::caller(), parsed.id).await?;
        // A repeat, whose first answer may be lost, finds nothing.
        let Some(row) = row else { return Ok(Response::new(())) };
        // A done operation never changes, so the earlier read is still valid.
        if !row.is_done() {
            let message = format!("{name} is not done; cancel it, wait for its end, and delete it then");
            return Err(status(Code::FailedPrecondition, DOMAIN, "OPERATION_NOT_DONE", message));
        }
        let mut tx = store.begin().await?;
        changes::delete(&mut tx, row.id).await?;
        tx.commit().await?;
        Ok(Response::new(()))
    }

    async fn cancel_operation(&self, request: Request<CancelOperationRequest>) -> Result<Response<()>, Status> {
        let (operations, _, row) = self.find(&request.get_ref().name).await?;
        let cancel = |row: Option<&mut Row>, now| {
            // A done operation, or one that is already cancelled, does not change.
            let Some(row) = row.filter(|row| !row.is_done() && !row.cancel_requested) else { return Ok(None) };
            row.cancel_requested = true;
            if row.state == State::Pending {
                outcome::cancel_pending(row, now);
            }
            Ok(Some(Change::State))
        };
        let row = operations.batcher.edit(row.id, 0, cancel).await?;
        // A worker undoes the steps of a saga.
        if let Some(row) = row.filter(|row| row.phase == Phase::Undoing) {
            operations.records.notifier.notify(&Key::Work(operations.records.service, row.kind));
        }
        Ok(Response::new(()))
    }

    async fn wait_operation(&self, request: Request<WaitOperationRequest>) -> Result<Response<Operation>, Status> {
        let request = request.into_inner();
        let mut bad = Violations::default();
        // A duration that does not convert is negative.
        let asked = request.timeout.map(Duration::try_from);
        bad.check(!matches!(asked, Some(Err(_))), "timeout", "must not be negative");
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;
        let (operations, _, mut row) = self.find(&request.name).await?;
        let left = Context::current().remaining().map(|left| left.saturating_sub(MARGIN));
        let wait = asked.and_then(Result::ok).into_iter().chain(left).min().unwrap_or(LONGEST_WAIT);
        let until = Instant::now() + wait.min(LONGEST_WAIT);

        let mut listener = operations.records.notifier.listen(Key::Subject(row.caller.clone(), row.id));
        loop {
            listener.reset();
            let latest = operations.records.get(&row.caller, row.id).await?;
            // The operation may have ended and been deleted since.
            row = latest.ok_or_else(|| name::unknown(&request.name))?;
            // A drain stops the work of this process, so a wait ends at once.
            let ends = async {
                tokio::select! {
                    () = sleep_until(until) => true,
                    () = self.draining.cancelled() => true,
                    () = listener.notified() => false,
                }
            };
            if row.is_done() || ends.await {
                return Ok(Response::new(shown(&operations, &row).await?));
            }
        }
    }
}

impl Streams for Api {
    async fn watch(self, request: WatchRequest) -> Result<Frames, Status> {
        let mut bad = Violations::default();
        let id = name::parse(&request.name, &mut bad).map(|name| name.id).unwrap_or_default();
        let cursor = SubjectCursor::parse(&request.cursor, id);
        bad.check(cursor.is_ok(), "cursor", "must come from a stream of this operation, or be empty");
        let progress = Progress::try_from(request.progress);
        bad.check(progress.is_ok(), "progress", "must be one of the values of Progress");
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;

        let (operations, epoch, row) = self.find(&request.name).await?;
        let options = WatchOptions {
            cursor: cursor.ok().flatten(),
            heartbeat: heartbeat(request.heartbeat),
            progress: progress.unwrap_or_default(),
        };
        let now = shown(&operations, &row).await?;
        Ok(Box::pin(watch::watch(operations, epoch, &row, now, options)))
    }

    async fn subscribe(self, request: SubscribeRequest) -> Result<Frames, Status> {
        let mut bad = Violations::default();
        let service = name::parse_parent("parent", &request.parent, &mut bad).unwrap_or_default();
        let cursor = FeedCursor::parse(&request.cursor);
        bad.check(cursor.is_ok(), "cursor", "must come from a stream of Subscribe, or be empty");
        bad.check(request.kinds.iter().all(|kind| !kind.is_empty()), "kinds", "must not be blank");
        bad.finish().map_err(|bad| invalid_fields(DOMAIN, bad))?;

        let (operations, epoch) = self.service(service)?;
        let options = SubscribeOptions {
            cursor: cursor.ok().flatten(),
            kinds: request.kinds.into_iter().collect(),
            terminal_only: request.terminal_only,
            heartbeat: heartbeat(request.heartbeat),
        };
        let frames = subscribe::subscribe(operations.clone(), *epoch, Context::caller(), options).await?;
        Ok(Box::pin(frames))
    }
}

/// The interval that a client asks for. A negative duration counts as none.
fn heartbeat(asked: Option<prost_types::Duration>) -> Option<Duration> {
    asked.and_then(|asked| Duration::try_from(asked).ok())
}
