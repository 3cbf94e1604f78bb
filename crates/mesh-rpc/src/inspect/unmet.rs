//! The calls of this process that no running instance of a peer serves.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_proto::mesh::inspect::v1::UnmetCall;

/// What the gate of releases has found. Cheap to clone; empty until it has looked.
#[derive(Clone, Debug, Default)]
pub struct Unmet(Arc<Mutex<Vec<UnmetCall>>>);

impl Unmet {
    /// Replaces what was found before.
    pub fn set(&self, calls: Vec<UnmetCall>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = calls;
    }

    pub(super) fn get(&self) -> Vec<UnmetCall> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
