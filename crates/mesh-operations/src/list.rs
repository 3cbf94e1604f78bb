//! Lists the operations of a caller, in pages.

use std::fmt;
use std::str::FromStr;

use mesh_feed::log::PAGE;
use mesh_proto::google::longrunning::ListOperationsRequest;
use mesh_rpc::call::{Caller, Violations};
use mesh_store::{Error, hash};
use prost::Message as _;
use sqlx::{AnyExecutor, AssertSqlSafe};
use uuid::Uuid;

use super::filter::Filter;
use super::records::Records;
use super::row::Row;
use super::storage::{COLUMNS, read, seen_by};

/// The content of a page token: the last operation of a page, and the list to which the page belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PagePosition {
    pub(super) id: Uuid,
    list: u64,
}

impl PagePosition {
    /// A position in the list with this [`identity`].
    pub(super) fn new(id: Uuid, list: u64) -> Self {
        Self { id, list }
    }

    /// Adds a violation if the position belongs to another list.
    pub(super) fn check(position: Option<Self>, list: u64, bad: &mut Violations) {
        let same = position.is_none_or(|position| position.list == list);
        bad.check(same, "page_token", "must come from a page of the same name and filter, or be empty");
    }
}

/// A hash that identifies the list of a request: its name and filter.
pub(super) fn identity(request: &ListOperationsRequest) -> u64 {
    let ListOperationsRequest { name, filter, .. } = request;
    let list = ListOperationsRequest { name: name.clone(), filter: filter.clone(), ..Default::default() };
    let hash = hash("ListOperations", &list.encode_to_vec());
    hash.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
}

impl fmt::Display for PagePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.id, self.list)
    }
}

impl FromStr for PagePosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, list) = text.split_once('/').ok_or(())?;
        let list = u64::from_str_radix(list, 16).map_err(drop)?;
        Ok(Self { id: id.parse().map_err(drop)?, list })
    }
}

/// A page of the operations that `caller` sees and that are older than the one with the id `before`, the newest first.
pub(super) async fn list(
    records: &Records,
    caller: &Caller,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    // Greater than each UUID.
    let before = before.map_or_else(|| "g".to_owned(), |id| id.to_string());
    let list = format!(
        "SELECT {COLUMNS} FROM operations WHERE {} AND id < $2{} ORDER BY id DESC LIMIT $3",
        seen_by(caller, records.service),
        filter.conditions()
    );
    let mut list = sqlx::query(AssertSqlSafe(list)).bind(caller.name()).bind(before).bind(limit);
    if let Some(kind) = &filter.kind {
        list = list.bind(kind);
    }
    if let Some(correlation) = filter.correlation {
        list = list.bind(correlation.simple().to_string());
    }
    Ok(list.try_map(read).fetch_all(records.store.reader()).await?)
}

/// A page of the operations of `caller` that were not done at a position of the feed and have not changed since. They
/// follow the operation `last`, the oldest first.
pub(super) async fn open_at(
    database: impl AnyExecutor<'_>,
    caller: &Caller,
    position: i64,
    last: Uuid,
) -> Result<Vec<Row>, Error> {
    let open = format!(
        "SELECT {COLUMNS} FROM operations WHERE owner = $1 AND state < 3 AND id > $2 AND NOT EXISTS (
            SELECT 1 FROM feed
            WHERE feed.operation = operations.id AND feed.revision = operations.revision AND feed.position > $3)
        ORDER BY id LIMIT {PAGE}"
    );
    let open = sqlx::query(AssertSqlSafe(open)).bind(caller.name()).bind(last.to_string()).bind(position);
    Ok(open.try_map(read).fetch_all(database).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_position_round_trips() {
        let position = PagePosition::new(Uuid::now_v7(), 7);
        assert_eq!(position.to_string().parse(), Ok(position));
        assert_eq!(position.id.to_string().parse::<PagePosition>(), Err(()));
    }
}
