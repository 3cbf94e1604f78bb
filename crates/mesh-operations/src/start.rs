//! A request to start an operation.

use mesh_rpc::call::Context;
use mesh_store::request_hash;
use prost::Message as _;
use uuid::Uuid;

use super::changes::New;
use super::work::Work;

/// A request to start an operation, under a `request_id` that makes a repeat harmless.
pub struct Start<'a, W: Work> {
    pub(super) request_id: Uuid,
    pub(super) request: &'a W::Request,
    pub(super) hash: Vec<u8>,
}

impl<'a, W: Work> Start<'a, W> {
    /// The request `request` under `request_id`, as `Violations::uuid` returns it. A different request under the same id
    /// is refused.
    pub fn new(request_id: Uuid, request: &'a W::Request) -> Self {
        Self { request_id, request, hash: request_hash(W::KIND, request_id, request) }
    }

    /// The new operation to store.
    pub(super) fn to_new(&self) -> New {
        New {
            caller: Context::caller(),
            kind: W::KIND.to_owned(),
            request_id: self.request_id,
            request_hash: self.hash.clone(),
            input: self.request.encode_to_vec(),
            deadline: W::DEADLINE,
            trace: Context::current().trace,
        }
    }
}
