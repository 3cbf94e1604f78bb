//! The handle that a saga gets while it runs its steps.

use std::ops::{Deref, DerefMut};

use mesh_proto::mesh::operations::v1::{Phase, StepState};
use mesh_rpc::call::Caller;
use mesh_store::{Connection, Error, Transaction};
use prost::{Message, Name};
use uuid::Uuid;

use super::attempt::Changing;
use super::journal::Journal;
use super::plan::Step;
use super::row::Row;
use super::saga_steps::StepRow;

/// A saga that runs its steps.
pub struct Forward {
    pub(super) journal: Journal,
    pub(super) steps: &'static [Step],
}

impl Forward {
    /// The operation's name.
    pub fn name(&self) -> String {
        self.journal.attempt.name()
    }

    /// As [`Attempt::owner`](crate::Attempt::owner).
    pub fn owner(&self) -> &Caller {
        self.journal.attempt.owner()
    }

    /// The `request_id` of the calls of a step, the same in each attempt: the UUID of version 5 of the operation's id
    /// and the name of the step.
    pub fn request_id(&self, step: &str) -> Uuid {
        self.journal.request_id(step)
    }

    /// As [`Attempt::progress`](crate::Attempt::progress).
    ///
    /// # Errors
    ///
    /// As [`Attempt::progress`](crate::Attempt::progress).
    pub async fn progress<P: Name>(&self, progress: &P) -> Result<(), Error> {
        self.journal.attempt.progress(progress).await
    }

    /// The result of a step, if it is done.
    ///
    /// # Errors
    ///
    /// [`Error::Defect`] if the result does not decode as `R`.
    pub fn finished<R: Message + Default>(&self, step: &str) -> Result<Option<R>, Error> {
        self.journal.finished(step)
    }

    /// Begins the transaction that is a local step. Its rows and its result commit together. Ask
    /// [`finished`](Self::finished) before.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]; the call may be retried. [`Error::Defect`] if `STEPS` has no such local step, or it is
    /// done.
    pub async fn local(&self, step: &str) -> Result<LocalStep<'_>, Error> {
        let step = self.declared(step, false)?;
        if self.journal.find(step.name).is_some_and(|known| known.state == StepState::Done) {
            return Err(defect(format!("the step `{}` is done: ask `finished` before", step.name)));
        }
        Ok(LocalStep { change: self.journal.attempt.change().await?, saga: self, step })
    }

    /// Runs a remote step: stores that it begins, calls, and stores the result. A step that is done is not called
    /// again. `call` gets the `request_id`.
    ///
    /// # Errors
    ///
    /// The error of `call`: return it, unless the saga can go on without the step. [`Error::Defect`] if `STEPS` has no
    /// such remote step.
    pub async fn remote<R, E, F>(&self, step: &str, call: impl FnOnce(Uuid) -> F) -> Result<R, E>
    where
        R: Message + Default,
        E: From<Error>,
        F: Future<Output = Result<R, E>>,
    {
        let step = self.declared(step, true)?;
        if let Some(done) = self.finished(step.name)? {
            return Ok(done);
        }
        let change = self.journal.attempt.change().await?;
        let begin = |row: &mut StepRow, _| {
            (row.state, row.attempt, row.ended) = (StepState::Begun, row.attempt + 1, 0);
            row.error.clear();
        };
        self.journal.write(change, step.name, begin, |_, _| ()).await?;
        let result = call(self.request_id(step.name)).await?;
        let change = self.journal.attempt.change().await?;
        let end = |row: &mut StepRow, now| finish(row, &result, now);
        self.journal.write(change, step.name, end, |row, now| pass(step, row, now)).await?;
        Ok(result)
    }

    /// A step by its name.
    fn declared(&self, name: &str, is_remote: bool) -> Result<Step, Error> {
        let step = self.steps.iter().find(|step| step.name == name && step.is_remote == is_remote);
        let kind = if is_remote { "remote" } else { "local" };
        step.copied().ok_or_else(|| defect(format!("STEPS has no {kind} step `{name}`")))
    }
}

/// The transaction of a local step. Use it as a connection: `sqlx::query(…).execute(&mut *step)`.
pub struct LocalStep<'a> {
    change: Changing<'a>,
    saga: &'a Forward,
    step: Step,
}

impl LocalStep<'_> {
    /// Finishes the step. [`Forward::finished`] returns `result` from now on.
    ///
    /// # Errors
    ///
    /// As [`attempt::Step::commit`](crate::Step::commit).
    pub async fn commit(self, result: &impl Message) -> Result<(), Error> {
        let end = |row: &mut StepRow, now| {
            row.attempt += 1;
            finish(row, result, now);
        };
        let step = self.step;
        self.saga.journal.write(self.change, step.name, end, |row, now| pass(step, row, now)).await
    }
}

impl Deref for LocalStep<'_> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.change.tx
    }
}

impl DerefMut for LocalStep<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.change.tx
    }
}

impl AsMut<Transaction> for LocalStep<'_> {
    fn as_mut(&mut self) -> &mut Transaction {
        &mut self.change.tx
    }
}

fn finish(step: &mut StepRow, result: &impl Message, now: i64) {
    (step.state, step.ended, step.result) = (StepState::Done, now, result.encode_to_vec());
    step.error.clear();
}

/// The pivot turns the saga: from its answer on it only goes forward.
fn pass(step: Step, row: &mut Row, now: i64) {
    if step.is_pivot {
        (row.phase, row.phase_since, row.attempt) = (Phase::Committed, now, 1);
    }
}

fn defect(message: String) -> Error {
    Error::Defect(sqlx::Error::Protocol(message))
}
