//! The steps that an operation has begun, as the attempt knows them that holds its lease. Only that attempt writes
//! them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_proto::mesh::operations::v1::StepState;
use mesh_store::{Condition, Error};
use prost::Message;
use uuid::Uuid;

use super::attempt::{Attempt, Changing};
use super::row::Row;
use super::saga_steps::{self, StepRow};

/// The steps of the saga of an attempt.
pub(super) struct Journal {
    pub(super) attempt: Arc<Attempt>,
    steps: Mutex<Vec<StepRow>>,
}

impl Journal {
    pub(super) async fn load(attempt: Arc<Attempt>) -> Result<Self, Error> {
        let steps = Mutex::new(saga_steps::load(&attempt.records.store, attempt.id).await?);
        Ok(Self { attempt, steps })
    }

    /// The steps, in the order in which they began.
    pub(super) fn steps(&self) -> Vec<StepRow> {
        self.lock().clone()
    }

    /// A step, if it has begun.
    pub(super) fn find(&self, name: &str) -> Option<StepRow> {
        self.lock().iter().find(|step| step.name == name).cloned()
    }

    /// The decoded result of a step, if it was done and is not undone.
    pub(super) fn finished<R: Message + Default>(&self, step: &str) -> Result<Option<R>, Error> {
        let Some(step) = self.find(step).filter(StepRow::was_done) else { return Ok(None) };
        R::decode(&step.result[..]).map(Some).map_err(|error| Error::Defect(sqlx::Error::Decode(error.into())))
    }

    /// The steps whose outcome is not known.
    pub(super) fn begun(&self) -> Vec<StepRow> {
        self.lock().iter().filter(|step| step.state == StepState::Begun).cloned().collect()
    }

    /// A key for the calls of a step, the same in each attempt: the UUID of version 5 of the operation's id and the
    /// step.
    pub(super) fn request_id(&self, step: &str) -> Uuid {
        self.attempt.idempotency_key(step)
    }

    /// Writes a step and a change of its operation, and commits. `write` gets the step, new if it has not begun, and
    /// the time.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], too, if the stored step is in another state: an earlier commit has succeeded whose
    /// answer was lost. The next attempt reads what is stored.
    pub(super) async fn write(
        &self,
        mut change: Changing<'_>,
        name: &str,
        write: impl FnOnce(&mut StepRow, i64),
        edit: impl FnOnce(&mut Row, i64),
    ) -> Result<(), Error> {
        let now = change.edit(edit).await?;
        let found = self.find(name);
        let known = found.as_ref().map(|step| step.state);
        let mut step = found.unwrap_or_else(|| self.new_step(name, now));
        write(&mut step, now);
        if !saga_steps::store(&mut change.tx, self.attempt.id, known, &step).await? {
            let cause =
                sqlx::Error::Protocol(format!("the step `{name}` was stored by a commit whose answer was lost"));
            return Err(Error::unavailable(Condition::Busy, cause));
        }
        change.commit().await?;
        let mut steps = self.lock();
        match steps.iter_mut().find(|known| known.name == name) {
            Some(known) => *known = step,
            None => steps.push(step),
        }
        Ok(())
    }

    fn new_step(&self, name: &str, now: i64) -> StepRow {
        let position = self.lock().last().map_or(0, |last| last.position) + 1;
        let (name, state) = (name.to_owned(), StepState::Begun);
        StepRow { name, position, state, attempt: 0, begun: now, ended: 0, error: Vec::new(), result: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<StepRow>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
