//! An operation that ended without success, the handle that its clean-up gets.

use mesh_store::Error;
use prost::Message;
use uuid::Uuid;

use super::records::Records;
use super::{name, steps};

/// An operation that ended without success, as its clean-up sees it.
pub struct Ended {
    records: Records,
    id: Uuid,
}

impl Ended {
    pub(super) fn new(records: Records, id: Uuid) -> Self {
        Self { records, id }
    }

    /// The operation's name.
    pub fn name(&self) -> String {
        name::format(self.records.service, self.id)
    }

    /// A key for calls to other systems, the same in each run: as
    /// [`Attempt::idempotency_key`](super::Attempt::idempotency_key). A call that undoes a step needs a name of its
    /// own.
    pub fn idempotency_key(&self, step: &str) -> Uuid {
        Uuid::new_v5(&self.id, step.as_bytes())
    }

    /// The result of a step, if an attempt has finished it.
    ///
    /// # Errors
    ///
    /// As [`Attempt::finished`](super::Attempt::finished).
    pub async fn finished<R: Message + Default>(&self, step: &str) -> Result<Option<R>, Error> {
        steps::finished(&self.records.store, self.id, step).await
    }
}
