//! A request to start an operation.

use std::marker::PhantomData;
use std::time::Duration;

use mesh_proto::mesh::operations::v1::Phase;
use mesh_rpc::call::Context;
use mesh_store::request_hash;
use prost::Message;
use uuid::Uuid;

use super::changes::New;
use super::saga::Saga;
use super::work::Work;

/// A request to start an operation, under a `request_id` that makes a repeat harmless. `W` is the [`Work`] or the
/// [`Saga`] that runs it.
pub struct Start<'a, W> {
    pub(super) request_id: Uuid,
    pub(super) hash: Vec<u8>,
    pub(super) kind: &'static str,
    deadline: Duration,
    phase: Phase,
    encode: Box<dyn Fn() -> Vec<u8> + Send + Sync + 'a>,
    work: PhantomData<fn() -> W>,
}

impl<'a, W: Work> Start<'a, W> {
    /// The request `request` under `request_id`, as `Violations::uuid` returns it. A different request under the same
    /// id is refused.
    pub fn new(request_id: Uuid, request: &'a W::Request) -> Self {
        Self::of(W::KIND, W::DEADLINE, Phase::Unspecified, request_id, request)
    }
}

impl<'a, S: Saga> Start<'a, S> {
    /// As [`new`](Self::new), of a saga.
    pub fn saga(request_id: Uuid, request: &'a S::Request) -> Self {
        Self::of(S::KIND, S::DEADLINE, Phase::Forward, request_id, request)
    }
}

impl<'a, W> Start<'a, W> {
    fn of<R: Message>(kind: &'static str, deadline: Duration, phase: Phase, request_id: Uuid, request: &'a R) -> Self {
        let (hash, encode) = (request_hash(kind, request_id, request), Box::new(|| request.encode_to_vec()));
        Self { request_id, hash, kind, deadline, phase, encode, work: PhantomData }
    }

    /// The new operation to store.
    pub(super) fn to_new(&self) -> New {
        let Context { caller, trace, cause, .. } = Context::current();
        New {
            caller,
            kind: self.kind.to_owned(),
            request_id: self.request_id,
            request_hash: self.hash.clone(),
            input: (self.encode)(),
            deadline: self.deadline,
            phase: self.phase,
            trace,
            cause,
        }
    }
}
