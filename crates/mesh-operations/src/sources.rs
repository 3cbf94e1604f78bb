//! What streams follow: the history of an operation, and the feed of a caller. Their rows become messages of Watch and
//! of Subscribe, encoded once for all streams.

use bytes::Bytes;
use mesh_feed::cursor::{FeedCursor, SubjectCursor};
use mesh_feed::log;
use mesh_feed::reader::Source;
use mesh_feed::recent::Event;
use mesh_feed::stream::finish;
use mesh_proto::google::longrunning::Operation;
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::{
    Change, OperationEvent, OperationMetadata, Phase, SubscribeResponse, WatchResponse, watch_response,
};
use mesh_rpc::call::Caller;
use mesh_store::Error;
use prost::Message as _;
use tonic::Status;
use uuid::Uuid;

use super::records::Records;
use super::row::{Row, with_steps};
use super::{name, saga_steps};

/// The history of an operation, which its streams share.
pub(super) struct History {
    pub(super) records: Records,
    pub(super) caller: Caller,
    pub(super) id: Uuid,
    pub(super) epoch: Uuid,
}

impl Source for History {
    /// Far more than streams are behind each other, unless one is slow.
    const RECENT_BYTES: usize = 64 * 1024;

    async fn page(&self, number: i64) -> Result<Vec<Event>, Error> {
        let rows = log::history(self.records.store.reader(), self.id, number).await?;
        let operations = rows.iter().map(|row| decode(&row.payload)).collect::<Result<Vec<_>, _>>()?;
        // The rows have no steps: those of now are added to what is sent.
        let saga = operations.last().is_some_and(is_saga);
        let steps = if saga { saga_steps::shown(&self.records.store, self.id).await? } else { Vec::new() };
        let events = rows.into_iter().zip(operations);
        Ok(events.map(|(row, operation)| self.event(row, with_steps(operation, &steps))).collect())
    }

    /// The events of an operation are deleted from the first on, so the last one is the last to go.
    async fn ends_at(&self, _: i64) -> Result<bool, Error> {
        Ok(true)
    }
}

impl History {
    fn event(&self, row: log::Row, operation: Operation) -> Event {
        let (number, change, kind, done) = (row.revision, row.change, row.kind, operation.done);
        Event { number, change, kind, done, frame: self.frame(number, watch_response::Event::Update(operation)) }
    }

    /// An encoded message of Watch.
    pub(super) fn frame(&self, revision: i64, event: watch_response::Event) -> Bytes {
        let cursor = SubjectCursor { epoch: self.epoch, subject: self.id, revision };
        WatchResponse { cursor: cursor.to_bytes(), event: Some(event) }.encode_to_vec().into()
    }

    /// The operation as it is now.
    pub(super) async fn current(&self) -> Result<(Row, Operation), Status> {
        let (records, caller, id) = (self.records.clone(), self.caller.clone(), self.id);
        let current = finish(async move {
            let Some(row) = records.get(&caller, id).await? else { return Ok(None) };
            let steps = if row.is_saga() { saga_steps::shown(&records.store, id).await? } else { Vec::new() };
            Ok(Some((row, steps)))
        });
        let (row, steps) = current.await?.ok_or_else(|| name::unknown(&name::format(self.records.service, id)))?;
        let operation = with_steps(row.to_operation(self.records.service), &steps);
        Ok((row, operation))
    }
}

/// The feed of a caller, which its streams share.
pub(super) struct Feed {
    pub(super) records: Records,
    pub(super) caller: Caller,
    pub(super) epoch: Uuid,
}

impl Source for Feed {
    const RECENT_BYTES: usize = 1024 * 1024;

    async fn page(&self, number: i64) -> Result<Vec<Event>, Error> {
        let rows = log::page(self.records.store.reader(), &self.caller, number).await?;
        rows.into_iter().map(|row| self.event(row)).collect()
    }

    async fn ends_at(&self, number: i64) -> Result<bool, Error> {
        Ok(log::extent(self.records.store.reader(), &self.caller).await?.can_resume_from(number))
    }
}

impl Feed {
    fn event(&self, row: log::Row) -> Result<Event, Error> {
        let operation = decode(&row.payload)?;
        let (number, kind, done) = (row.position, row.kind, operation.done);
        // An unknown change counts as a change of state, so that it is never left out.
        let change = Change::try_from(row.change).unwrap_or(Change::State).into();
        let event = OperationEvent { operation: Some(operation), change };
        Ok(Event { number, change, kind, done, frame: self.frame(number, None, Frame::Event(event)) })
    }

    /// An encoded message of Subscribe.
    pub(super) fn frame(&self, position: i64, snapshot: Option<Uuid>, frame: Frame) -> Bytes {
        let cursor = FeedCursor { epoch: self.epoch, position, snapshot };
        SubscribeResponse { cursor: cursor.to_bytes(), frame: Some(frame) }.encode_to_vec().into()
    }

    /// The last position.
    pub(super) async fn last(&self) -> Result<i64, Status> {
        let (store, caller) = (self.records.store.clone(), self.caller.clone());
        Ok(finish(async move { log::extent(store.reader(), &caller).await }).await?.last)
    }
}

fn decode(payload: &[u8]) -> Result<Operation, Error> {
    Ok(Operation::decode(payload).map_err(|error| sqlx::Error::Decode(error.into()))?)
}

fn is_saga(operation: &Operation) -> bool {
    let metadata = operation.metadata.as_ref().and_then(|metadata| metadata.to_msg::<OperationMetadata>().ok());
    metadata.is_some_and(|metadata| metadata.phase() != Phase::Unspecified)
}
