//! The row of an operation, and its conversion to the contract.

use mesh_proto::google::longrunning::{Operation, operation};
use mesh_proto::mesh::operations::v1::{OperationMetadata, Phase, State, Step};
use mesh_rpc::call::{Caller, Cause, Trace};
use mesh_store::timestamp;
use prost::Message as _;
use prost_types::Any;
use uuid::Uuid;

use super::name;

/// A stored operation. Times are microseconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) caller: Caller,
    pub(super) kind: String,
    pub(super) state: State,
    pub(super) revision: i64,
    pub(super) attempt: i64,
    pub(super) fence: i64,
    pub(super) worker: String,
    pub(super) lease_until: i64,
    pub(super) run_at: i64,
    pub(super) deadline_at: i64,
    /// The trace of the call that started the operation; `None` for one of an earlier version.
    pub(super) trace: Option<Trace>,
    /// The cause of that call; `None` if it began something.
    pub(super) cause: Option<Cause>,
    pub(super) cancel_requested: bool,
    /// An encoded `Any`; empty before the first progress.
    pub(super) progress: Vec<u8>,
    /// An encoded `Operation` that holds the result only; empty until the operation is done, or a saga undoes its
    /// steps.
    pub(super) result: Vec<u8>,
    pub(super) created: i64,
    pub(super) updated: i64,
    /// The phase of a saga, without [`Phase::Stuck`]; unspecified for other work.
    pub(super) phase: Phase,
    /// Whether the saga is stuck in its phase.
    pub(super) stuck: bool,
    pub(super) phase_since: i64,
}

impl Row {
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Succeeded | State::Failed | State::Cancelled)
    }

    /// The cause of what the operation does; `None` for one of an earlier version.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.cause.or_else(|| self.trace.map(Cause::first))
    }

    /// Whether the operation ended in a way that its clean-up follows. A saga is undone before its end.
    pub(super) fn needs_clean_up(&self) -> bool {
        matches!(self.state, State::Failed | State::Cancelled) && !self.is_saga()
    }

    pub(super) fn is_saga(&self) -> bool {
        self.phase != Phase::Unspecified
    }

    /// Whether it is a saga that can only go on, or only be undone: neither a cancellation nor its deadline ends it.
    pub(super) fn is_bound(&self) -> bool {
        matches!(self.phase, Phase::Committed | Phase::Undoing)
    }

    /// Whether an attempt may have begun a step, so that there may be something to undo.
    pub(super) fn has_run(&self) -> bool {
        self.fence > 0
    }

    /// Whether the worker that claimed the operation under this fence still holds it. Only that worker may write.
    pub(super) fn is_held_under(&self, fence: i64) -> bool {
        self.fence == fence && self.state == State::Running
    }

    /// Sets the final state and the result.
    pub(super) fn finish(&mut self, state: State, result: operation::Result) {
        self.state = state;
        self.result = Operation { result: Some(result), ..Operation::default() }.encode_to_vec();
    }

    /// The message of the contract.
    pub(super) fn to_operation(&self, service: &str) -> Operation {
        self.message(service, &self.metadata())
    }

    /// The message of the contract with what started the operation, for lists: the feed keeps a message with each
    /// change.
    pub(super) fn to_listed_operation(&self, service: &str) -> Operation {
        let cause = self.cause();
        let causation_id = cause.and_then(|cause| cause.causation).map(|id| id.to_string()).unwrap_or_default();
        let metadata = OperationMetadata {
            kind: self.kind.clone(),
            correlation_id: cause.map(|cause| cause.correlation.to_string()).unwrap_or_default(),
            causation_id,
            ..self.metadata()
        };
        self.message(service, &metadata)
    }

    fn metadata(&self) -> OperationMetadata {
        OperationMetadata {
            state: self.state.into(),
            revision: self.revision,
            attempt: i32::try_from(self.attempt).unwrap_or(i32::MAX),
            create_time: Some(timestamp(self.created)),
            update_time: Some(timestamp(self.updated)),
            cancel_requested: self.cancel_requested,
            progress: Some(self.progress.as_slice())
                .filter(|progress| !progress.is_empty())
                .and_then(|progress| Any::decode(progress).ok()),
            phase: if self.stuck { Phase::Stuck } else { self.phase }.into(),
            ..OperationMetadata::default()
        }
    }

    fn message(&self, service: &str, metadata: &OperationMetadata) -> Operation {
        Operation {
            name: name::format(service, self.id),
            metadata: Any::from_msg(metadata).ok(),
            done: self.is_done(),
            result: self.stored_result().filter(|_| self.is_done()),
        }
    }

    /// The result that the operation has, or will have once its steps are undone.
    pub(super) fn stored_result(&self) -> Option<operation::Result> {
        Operation::decode(self.result.as_slice()).ok().and_then(|stored| stored.result)
    }
}

/// Adds the steps of a saga to its operation.
pub(super) fn with_steps(mut operation: Operation, steps: &[Step]) -> Operation {
    let metadata = operation.metadata.as_ref().and_then(|metadata| metadata.to_msg::<OperationMetadata>().ok());
    if let Some(metadata) = metadata.filter(|_| !steps.is_empty()) {
        operation.metadata = Any::from_msg(&OperationMetadata { steps: steps.to_vec(), ..metadata }).ok();
    }
    operation
}
