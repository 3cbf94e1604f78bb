//! The contents of the database, read by SQL without the program.

use std::collections::{BTreeMap, BTreeSet};

use contracts::google::longrunning::{Operation, operation};
use contracts::mesh::operations::v1::State;
use harness::Session;
use prost::Message as _;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::caller::metadata;
use super::recorder::{Record, Seen};

/// The number of attempts after which artwork's work fails.
const ATTEMPTS: i32 = 5;
/// The ledger's effect for a rendering that became the artwork of its title; its pictures are 0 to 3.
const PUBLISHED: i64 = -1;

/// Adds triggers that record each effect of artwork's, in its transaction, in a table that only grows: so an effect
/// that happens twice has two rows.
pub(super) fn create_ledger(url: &str) {
    let effects = [
        ("rendered", "INSERT ON renditions", "NEW.size"),
        ("published", "INSERT ON artworks", "-1"),
        ("published_again", "UPDATE ON artworks", "-1"),
    ];
    let mut session = Session::open(url);
    session.execute("CREATE TABLE ledger (rendering TEXT NOT NULL, effect BIGINT NOT NULL)");
    for (name, event, effect) in effects {
        let note = format!("INSERT INTO ledger (rendering, effect) VALUES (NEW.rendering, {effect});");
        session.execute(&if url.starts_with("sqlite:") {
            format!("CREATE TRIGGER {name} AFTER {event} BEGIN {note} END")
        } else {
            format!(
                "CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {note} RETURN NULL; END $$;
                CREATE TRIGGER {name} AFTER {event} FOR EACH ROW EXECUTE FUNCTION {name}();"
            )
        });
    }
}

/// The row of an operation.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) request_id: String,
    pub(super) state: State,
    revision: i64,
}

/// The contents of the database at one moment.
pub(super) struct Evidence {
    /// By name.
    pub(super) operations: BTreeMap<String, Kept>,
    /// By name: the revisions and the operation at each.
    feed: BTreeMap<String, Vec<(i64, Operation)>>,
    positions: Vec<i64>,
    next: Vec<i64>,
    inputs: BTreeSet<String>,
    /// The operations whose clean-up is not done.
    clean_ups: BTreeSet<String>,
    steps: BTreeSet<String>,
    /// By name.
    ledger: BTreeMap<String, Vec<i64>>,
}

impl Evidence {
    pub(super) fn collect(url: &str) -> Self {
        let mut session = Session::open(url);
        let sqlite = url.starts_with("sqlite:");
        session.execute(if sqlite { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ" });
        let operations = session.rows("SELECT id, request_id, state, revision FROM operations", |row| {
            let state = i32::try_from(row.get::<i64, _>(2)).expect("a state");
            let state = State::try_from(state).expect("a state");
            (name(row), Kept { request_id: row.get(1), state, revision: row.get(3) })
        });
        let history = session.rows("SELECT operation, revision, payload FROM feed ORDER BY revision", |row| {
            let payload: Vec<u8> = row.get(2);
            (name(row), row.get(1), Operation::decode(&*payload).expect("an operation"))
        });
        let mut feed: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, revision, operation) in history {
            feed.entry(name).or_default().push((revision, operation));
        }
        let mut ledger: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, effect) in session.rows("SELECT rendering, effect FROM ledger", |row| (row.get(0), row.get(1))) {
            ledger.entry(name).or_default().push(effect);
        }
        Self {
            operations: operations.into_iter().collect(),
            feed,
            positions: session.rows("SELECT position FROM feed ORDER BY position", |row| row.get(0)),
            next: session.rows("SELECT next FROM feed_owner", |row| row.get(0)),
            inputs: session.rows("SELECT operation FROM operation_input", name).into_iter().collect(),
            clean_ups: session.rows("SELECT operation FROM operation_clean_ups", name).into_iter().collect(),
            steps: session.rows("SELECT operation FROM operation_steps", name).into_iter().collect(),
            ledger,
        }
    }

    /// The names of the operations with this request id.
    pub(super) fn started(&self, request_id: &str) -> Vec<&String> {
        let started = self.operations.iter().filter(|(_, kept)| kept.request_id == request_id);
        started.map(|(name, _)| name).collect()
    }

    /// Asserts that each operation has all its rows, and that no row lacks an operation.
    pub(super) fn assert_whole(&self) {
        assert_eq!(self.positions, (1..).take(self.positions.len()).collect::<Vec<_>>(), "positions have a gap");
        assert_eq!(
            self.next.iter().sum::<i64>(),
            self.positions.len().cast_signed() as i64,
            "the owner's counter is not the last position"
        );
        assert!(self.feed.keys().eq(self.operations.keys()), "the feed and the operations differ");
        // A clean-up reads the input, so it is kept until the clean-up is done.
        let open = self.operations.iter();
        let open = open.filter(|(name, kept)| kept.state < State::Succeeded || self.clean_ups.contains(*name));
        assert!(
            self.inputs.iter().eq(open.map(|(name, _)| name)),
            "inputs are not those of the pending and running operations, and of open clean-ups"
        );
        assert!(self.ledger.keys().all(|name| self.operations.contains_key(name)), "an effect without an operation");
        for (name, kept) in &self.operations {
            let feed = &self.feed[name];
            let revisions: Vec<_> = feed.iter().map(|(revision, _)| *revision).collect();
            assert_eq!(revisions, (1..=kept.revision).collect::<Vec<_>>(), "{name}: revisions have a gap");
            let ends = feed.iter().filter(|(_, operation)| operation.done).count();
            let last = &feed[feed.len() - 1].1;
            assert_eq!(metadata(last).state(), kept.state, "{name}: the feed and the row differ");
            assert_eq!(
                (ends, last.done),
                (usize::from(last.done), kept.state >= State::Succeeded),
                "{name}: not exactly one end"
            );
            let needed = !last.done || self.clean_ups.contains(name);
            assert!(needed || !self.steps.contains(name), "{name}: steps are left after the end");
            self.assert_done_once(name, last);
        }
    }

    /// Asserts that no effect of an operation happened twice, and that a succeeded operation has all its effects.
    fn assert_done_once(&self, name: &str, last: &Operation) {
        let mut effects = self.ledger.get(name).cloned().unwrap_or_default();
        effects.sort_unstable();
        assert!(effects.is_sorted_by(|one, next| one < next), "{name}: an effect happened twice: {effects:?}");
        if metadata(last).state() == State::Succeeded {
            effects.retain(|effect| *effect != PUBLISHED);
            assert_eq!(effects, [0, 1, 2, 3], "{name}: succeeded without all pictures");
        }
    }

    /// Asserts that the clients' records agree with the database.
    pub(super) fn assert_agrees(&self, record: &Record) {
        for (request_id, name) in &record.acknowledged {
            assert_eq!(self.started(request_id), [name], "{request_id} was acknowledged as {name}");
        }
        for (name, kept) in &self.operations {
            assert!(record.asked.contains(&kept.request_id), "{name}: no client requested it");
            let end = &self.feed[name].last().expect("history").1;
            match kept.state {
                State::Cancelled => assert!(record.cancelled.contains(name), "{name}: no client cancelled it"),
                State::Failed => assert_attempts_exhausted(end),
                _ => {}
            }
        }
        record.seen.values().for_each(|seen| self.assert_seen(seen));
    }

    /// Asserts that one follower saw the history in order, to its one end, and nothing else.
    fn assert_seen(&self, seen: &Seen) {
        let name = &seen.operations[0].name;
        let revisions: Vec<_> = seen.operations.iter().map(|operation| metadata(operation).revision).collect();
        assert!(revisions.is_sorted_by(|one, next| one < next), "{name}: seen {revisions:?}");
        let kept: Vec<_> = self.feed[name].iter().skip_while(|(revision, _)| *revision < revisions[0]).collect();
        let mut remaining = seen.operations.iter().peekable();
        let mut before = metadata(&seen.operations[0]).state();
        for (revision, operation) in kept {
            let state = metadata(operation).state();
            if remaining.next_if_eq(&operation).is_none() {
                // Progress may be skipped, a change of state may not.
                assert!(!seen.all && state == before, "{name}: {revision} is missing in {revisions:?}, or differs");
            }
            before = state;
        }
        assert!(remaining.next().is_none(), "{name}: a client saw what the feed does not have: {revisions:?}");
        assert!(seen.operations.last().is_some_and(|last| last.done), "{name}: the follower did not see the end");
    }

    /// The number of operations that ended in this state.
    pub(super) fn ended(&self, state: State) -> usize {
        self.operations.values().filter(|kept| kept.state == state).count()
    }
}

/// The only failure that occurs: every attempt was cut short.
fn assert_attempts_exhausted(end: &Operation) {
    let Some(operation::Result::Error(error)) = &end.result else { panic!("{end:?}") };
    assert!(error.message.contains("every attempt ended without a word"), "{end:?}");
    assert_eq!(metadata(end).attempt, ATTEMPTS, "{end:?}");
}

/// The operation's name, from the id in the first column of a row.
fn name(row: &AnyRow) -> String {
    format!("services/artwork/operations/{}", row.get::<String, _>(0))
}
