//! The handle that a saga gets while it undoes a step.

use std::ops::{Deref, DerefMut};

use mesh_proto::mesh::operations::v1::StepState;
use mesh_rpc::call::Caller;
use mesh_store::{Connection, Error};
use prost::Message;
use tonic::Status;
use uuid::Uuid;

use super::attempt::Changing;
use super::failure::wire;
use super::journal::Journal;
use super::saga_steps::StepRow;

/// A saga that undoes one of its steps.
pub struct Undo<'a> {
    journal: &'a Journal,
    step: String,
}

impl<'a> Undo<'a> {
    pub(super) fn new(journal: &'a Journal, step: String) -> Self {
        Self { journal, step }
    }

    /// The operation's name.
    pub fn name(&self) -> String {
        self.journal.attempt.name()
    }

    /// As [`Attempt::owner`](crate::Attempt::owner).
    pub fn owner(&self) -> &Caller {
        self.journal.attempt.owner()
    }

    /// The `request_id` that the calls of a step had: as [`Forward::request_id`](super::saga::Forward::request_id). A
    /// call that undoes has one of its own, such as that of `undo charge`.
    pub fn request_id(&self, step: &str) -> Uuid {
        self.journal.request_id(step)
    }

    /// The result of a step, if it was done. `None` for a step that has failed, and for one whose outcome is not known.
    ///
    /// # Errors
    ///
    /// [`Error::Defect`] if the result does not decode as `R`.
    pub fn finished<R: Message + Default>(&self, step: &str) -> Result<Option<R>, Error> {
        self.journal.finished(step)
    }

    /// Begins a transaction that undoes a local step. Its rows, and that the step is undone, commit together.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]; the call may be retried.
    pub async fn local(&self) -> Result<LocalUndo<'_>, Error> {
        Ok(LocalUndo { change: self.journal.attempt.change().await?, undo: self })
    }

    /// Stores that the step is undone, unless a transaction of the step has.
    pub(super) async fn finish(&self) -> Result<(), Error> {
        if self.journal.find(&self.step).is_some_and(|step| step.state == StepState::Undone) {
            return Ok(());
        }
        self.store(self.journal.attempt.change().await?).await
    }

    async fn store(&self, change: Changing<'_>) -> Result<(), Error> {
        let undone = |row: &mut StepRow, now| {
            (row.attempt, row.state, row.ended) = (tries(row), StepState::Undone, now);
            row.error.clear();
        };
        self.journal.write(change, &self.step, undone, |_, _| ()).await
    }

    /// Stores why the step is not undone yet.
    pub(super) async fn fail(&self, failure: &Status) -> Result<(), Error> {
        let error = wire(failure).encode_to_vec();
        let failed = |row: &mut StepRow, _| {
            // A step that has failed, or whose outcome is not known, has no result.
            row.ended = if row.was_done() { row.ended } else { 0 };
            (row.attempt, row.state, row.error) = (tries(row), StepState::Undoing, error);
        };
        self.journal.write(self.journal.attempt.change().await?, &self.step, failed, |_, _| ()).await
    }
}

/// The number of times that the undoing of a step was tried, this one included.
fn tries(step: &StepRow) -> i64 {
    if step.state == StepState::Undoing { step.attempt + 1 } else { 1 }
}

/// The transaction that undoes a local step. Use it as a connection: `sqlx::query(…).execute(&mut *undo)`.
pub struct LocalUndo<'a> {
    change: Changing<'a>,
    undo: &'a Undo<'a>,
}

impl LocalUndo<'_> {
    /// Commits. The step is undone.
    ///
    /// # Errors
    ///
    /// [`Error::LeaseLost`]: rolled back. [`Error::Unavailable`]: it may be committed or not. Return either.
    pub async fn commit(self) -> Result<(), Error> {
        self.undo.store(self.change).await
    }
}

impl Deref for LocalUndo<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.change.tx
    }
}

impl DerefMut for LocalUndo<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.change.tx
    }
}
