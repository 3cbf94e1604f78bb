//! A request to start an operation.

use mesh_rpc::call::Context;
use mesh_store::{Error, hash};
use prost::Message as _;

use super::changes::New;
use super::work::Work;

/// A request to start an operation, under a `request_id` that makes a repeat harmless.
pub struct Start<'a, W: Work> {
    pub(super) request_id: &'a str,
    pub(super) request: &'a W::Request,
    pub(super) hash: Vec<u8>,
}

impl<'a, W: Work> Start<'a, W> {
    /// The new operation to store.
    ///
    /// # Errors
    ///
    /// [`Error::Defect`] if the id holds a NUL: no database stores it in text, and the whole batch would fail.
    pub(super) fn to_new(&self) -> Result<New, Error> {
        if self.request_id.contains('\0') {
            return Err(Error::Defect(sqlx::Error::Encode("the request_id holds a NUL".into())));
        }
        Ok(New {
            caller: Context::caller(),
            kind: W::KIND.to_owned(),
            request_id: self.request_id.to_owned(),
            request_hash: self.hash.clone(),
            input: self.request.encode_to_vec(),
            deadline: W::DEADLINE,
        })
    }

    /// The request `request` under `request_id`. A different request under the same id is refused.
    pub fn new(request_id: &'a str, request: &'a W::Request) -> Self {
        Self { request_id, request, hash: hash(W::KIND, request) }
    }
}
