//! The filter of ListOperations: the part of [AIP-160](https://google.aip.dev/160) that an index answers, and a
//! correlation, for which all operations of the caller are read.
//!
//! It refuses any other filter: a partly understood filter would list operations that were not asked for.

use mesh_proto::mesh::operations::v1::State;
use mesh_rpc::call::Violations;
use uuid::Uuid;

const ALLOWED: &str = "must be of done=true or done=false, state=PENDING, RUNNING, SUCCEEDED, FAILED or CANCELLED, \
                       kind=NAME, and correlation_id=UUID, each at most once, joined by AND";

/// The conditions that a listed operation meets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    done: Option<bool>,
    state: Option<State>,
    pub(super) kind: Option<String>,
    pub(super) correlation: Option<Uuid>,
}

impl Filter {
    /// Parses a filter, which may be empty, and adds a violation if it is not allowed.
    pub(super) fn parse(text: &str, bad: &mut Violations) -> Self {
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut filter = Self::default();
        let understood = words.is_empty() || words.split(" AND ").all(|term| filter.add(term).is_some());
        bad.check(understood, "filter", ALLOWED);
        filter
    }

    /// Adds one term; `None` if it is not a term, or repeats a field.
    fn add(&mut self, term: &str) -> Option<()> {
        let (field, value) = term.split_once('=')?;
        let value = value.trim();
        let value = value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?;
        match field.trim() {
            "done" if self.done.is_none() => self.done = Some(value.parse().ok()?),
            "state" if self.state.is_none() => self.state = Some(state(value)?),
            "kind" if self.kind.is_none() && is_name(value) => self.kind = Some(value.to_owned()),
            "correlation_id" if self.correlation.is_none() => self.correlation = Some(value.parse().ok()?),
            _ => return None,
        }
        Some(())
    }

    /// The conditions in SQL, each with AND in front. A kind and the digits of a correlation are
    /// the parameters from $4 on. They repeat the conditions `< 3` and
    /// `> 3` of the partial indexes literally: SQLite uses such an index only then.
    pub(super) fn conditions(&self) -> String {
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
        if self.correlation.is_some() {
            let digits = if self.kind.is_some() { "$5" } else { "$4" };
            // As `Cause` and `Trace` are written.
            sql.push_str(&format!(
                " AND (substr(cause, 1, 32) = {digits} OR cause = '' AND substr(trace, 4, 32) = {digits})"
            ));
        }
        sql
    }
}

fn state(name: &str) -> Option<State> {
    State::from_str_name(&format!("STATE_{name}")).filter(|state| *state != State::Unspecified)
}

/// Whether a text can be the name of a kind of work, without any syntax.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
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
    fn filter_parses_terms_in_any_order_and_spacing() {
        let (done, state) = (Some(false), Some(State::Running));
        let all = Filter { done, state, kind: Some("RenderArtwork".to_owned()), correlation: None };
        assert_eq!(parse("done=false AND state=RUNNING AND kind=RenderArtwork").unwrap(), all);
        let correlation = Uuid::from_u128(7);
        let caused = Filter { correlation: Some(correlation), ..Filter::default() };
        assert_eq!(parse(&format!("correlation_id=\"{correlation}\"")).unwrap(), caused);
        assert_eq!(parse(" kind = \"RenderArtwork\"  AND state =RUNNING AND done= false ").unwrap(), all);
        assert_eq!(parse("").unwrap(), Filter::default());
        assert_eq!(parse("done=true").unwrap(), Filter { done: Some(true), ..Filter::default() });
    }

    #[test]
    fn filter_refuses_unknown_terms() {
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
            "correlation_id=7",
        ];
        for text in refused {
            let bad = parse(text).unwrap_err().to_string();
            assert!(bad.contains("filter must be of done=true"), "{text}: {bad}");
        }
    }
}
