//! Lists the sources of a process, and the events of a source that share a first cause.
//!
//! The log has no index of correlations: each event would pay for it, and people ask rarely. A page reads a part of the
//! log, so that no call takes long.
//!
//! See: decision 0037

use mesh_feed::cursor::LogCursor;
use mesh_proto::mesh::events::v1::{Event, Source};
use mesh_rpc::call::page::Page;
use mesh_store::{Error, timestamp};
use uuid::Uuid;

use super::log;
use super::source::{Published, message};

/// The most positions that one page reads.
const READ: i64 = 10_000;

/// A source, with the bounds of its log.
pub(super) async fn source(published: &Published, epoch: Uuid) -> Result<Source, Error> {
    let end = log::end(published.store.reader()).await?;
    let floor_told = log::told_at(published.store.reader(), end.floor).await?;
    let cursor = LogCursor { epoch, position: end.head, told: end.told, snapshot: None };
    Ok(Source {
        name: published.service.to_owned(),
        types: published.publishes.types.iter().map(ToString::to_string).collect(),
        head: end.head,
        floor: end.floor,
        floor_time: floor_told.map(timestamp),
        head_time: (end.head > 0).then(|| timestamp(end.told)),
        cursor: cursor.to_bytes(),
    })
}

/// A page of the events with a correlation, and the token of the next page.
pub(super) async fn caused(
    published: &Published,
    correlation: Uuid,
    page: &Page<i64>,
) -> Result<(Vec<Event>, String), Error> {
    let end = log::end(published.store.reader()).await?;
    let after = page.after.unwrap_or_default().max(end.floor - 1);
    let until = after.saturating_add(READ);
    let rows = log::caused(published.store.reader(), correlation, (after, until), page.fetch()).await?;
    let (rows, mut next) = page.cut(rows, |row| row.position);
    if next.is_empty() && until < end.head {
        next = Page::token(&until);
    }
    Ok((rows.into_iter().map(message).collect(), next))
}
