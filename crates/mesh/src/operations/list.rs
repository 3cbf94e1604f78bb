//! Which of an owner's operations a list is asked for, and how it is handed out.
//!
//! The filter is the part of [AIP-160](https://google.aip.dev/160) that an index answers. What looks like more than
//! that is refused: a filter that was half understood would show operations that nobody asked for.

use std::fmt;
use std::str::FromStr;

use mesh_proto::google::longrunning::ListOperationsRequest;
use mesh_proto::mesh::operations::v1::State;
use sqlx::{AnyExecutor, AssertSqlSafe};
use uuid::Uuid;

use super::Owner;
use super::row::Row;
use super::storage::{COLUMNS, read};
use super::stream::PAGE;
use crate::error::Violations;
use crate::store::{self, Error};

const ALLOWED: &str = "must be of done=true or done=false, state=PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED, and \
                       kind=NAME, each at most once, joined by AND";

/// What an operation must be to be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    done: Option<bool>,
    state: Option<State>,
    kind: Option<String>,
}

impl Filter {
    /// Reads a filter, which may be empty; notes it as bad if it is anything but what is allowed.
    pub(super) fn parse(text: &str, bad: &mut Violations) -> Self {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut filter = Self::default();
        let understood = words.is_empty() || words.split(" AND ").all(|term| filter.add(term).is_some());
        bad.check(understood, "filter", ALLOWED);
        filter
    }

    /// Takes one term; `None` if it is none, or its field was there before.
    fn add(&mut self, term: &str) -> Option<()> {
        let (field, value) = term.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
        match field.trim() {
            "done" if self.done.is_none() => self.done = Some(value.parse().ok()?),
            "state" if self.state.is_none() => self.state = Some(state(value)?),
            "kind" if self.kind.is_none() && is_name(value) => self.kind = Some(value.to_owned()),
            _ => return None,
        }
        Some(())
    }

    /// As conditions in SQL, each with AND in front; a kind is parameter $4. They say `< 3` and `> 3` in the words of
    /// the partial indexes, which SQLite wants to read before it takes one.
    fn conditions(&self) -> String {
        let mut sql = String::new();
        match self.done {
            Some(true) => sql.push_str(" AND state >= 3"),
            Some(false) => sql.push_str(" AND state < 3"),
            None => {}
        }
        if let Some(state) = self.state {
            let index = match state {
                State::Succeeded => "",
                State::Failed | State::Cancelled => " AND state > 3",
                _ => " AND state < 3",
            };
            sql.push_str(&format!("{index} AND state = {}", state as i32));
        }
        if self.kind.is_some() {
            sql.push_str(" AND kind = $4");
        }
        sql
    }
}

fn state(name: &str) -> Option<State> {
    State::from_str_name(&format!("STATE_{name}")).filter(|state| *state != State::Unspecified)
}

/// What the author of a service may call a kind of work, and nobody could take for syntax.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// Where a page ended, and the list that it is a page of: behind another filter the place would mean another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: Uuid,
    list: u64,
}

impl Place {
    /// A place in the list that `request` asks for.
    pub(super) fn new(id: Uuid, list: u64) -> Self {
        Self { id, list }
    }

    /// Notes a place as bad that is one of another list.
    pub(super) fn check(place: Option<Self>, list: u64, bad: &mut Violations) {
        let same = place.is_none_or(|place| place.list == list);
        bad.check(same, "page_token", "must come from a page of the same name and filter, or be empty");
    }
}

/// What tells the list that a request asks for from any other.
pub(super) fn identity(request: &ListOperationsRequest) -> u64 {
    let ListOperationsRequest { name, filter, .. } = request;
    let list = ListOperationsRequest { name: name.clone(), filter: filter.clone(), ..Default::default() };
    let hash = store::hash("ListOperations", &list);
    hash.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.id, self.list)
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, list) = text.split_once('/').ok_or(())?;
        let list = u64::from_str_radix(list, 16).map_err(drop)?;
        Ok(Self { id: id.parse().map_err(drop)?, list })
    }
}

/// The operations of `owner` before the one with the id `before`, the newest first.
pub(super) async fn list(
    database: impl AnyExecutor<'_>,
    owner: &Owner,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    // Behind every UUID there is.
    let before = before.map_or_else(|| "g".to_owned(), |id| id.to_string());
    let list = format!(
        "SELECT {COLUMNS} FROM operations WHERE owner = $1 AND id < $2{} ORDER BY id DESC LIMIT $3",
        filter.conditions()
    );
    let mut list = sqlx::query(AssertSqlSafe(list)).bind(&owner.0).bind(before).bind(limit);
    if let Some(kind) = &filter.kind {
        list = list.bind(kind);
    }
    Ok(list.try_map(read).fetch_all(database).await?)
}

/// What of `owner` was not done at a position of the feed and has not changed since, behind the operation `last`, the
/// oldest first: a page of it.
pub(super) async fn open_at(
    database: impl AnyExecutor<'_>,
    owner: &Owner,
    position: i64,
    last: Uuid,
) -> Result<Vec<Row>, Error> {
    let open = format!(
        "SELECT {COLUMNS} FROM operations WHERE owner = $1 AND state < 3 AND id > $2 AND NOT EXISTS (
            SELECT 1 FROM feed
            WHERE feed.operation = operations.id AND feed.revision = operations.revision AND feed.position > $3)
        ORDER BY id LIMIT {PAGE}"
    );
    let open = sqlx::query(AssertSqlSafe(open)).bind(&owner.0).bind(last.to_string()).bind(position);
    Ok(open.try_map(read).fetch_all(database).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Filter, Violations> {
        let mut bad = Violations::default();
        let filter = Filter::parse(text, &mut bad);
        bad.finish().map(|()| filter)
    }

    #[test]
    fn a_filter_is_read_as_it_is_meant() {
        let all = Filter { done: Some(false), state: Some(State::Running), kind: Some("RenderArtwork".to_owned()) };
        assert_eq!(parse("done=false AND state=RUNNING AND kind=RenderArtwork").unwrap(), all);
        assert_eq!(parse(" kind = \"RenderArtwork\"  AND state =RUNNING AND done= false ").unwrap(), all);
        assert_eq!(parse("").unwrap(), Filter::default());
        assert_eq!(parse("done=true").unwrap(), Filter { done: Some(true), ..Filter::default() });
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let refused = [
            "done",
            "done=yes",
            "done!=true",
            "state=STATE_RUNNING",
            "state=UNSPECIFIED",
            "kind=",
            "kind=\"a",
            "kind=a OR kind=b",
            "done=true done=false",
            "done=true AND",
            "done=true AND done=true",
            "(done=true)",
            "NOT done=true",
            "name=x",
        ];
        for text in refused {
            let bad = parse(text).unwrap_err().to_string();
            assert!(bad.contains("filter must be of done=true"), "{text}: {bad}");
        }
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        let place = Place::new(Uuid::now_v7(), 7);
        assert_eq!(place.to_string().parse(), Ok(place));
        assert_eq!(place.id.to_string().parse::<Place>(), Err(()));
    }
}
