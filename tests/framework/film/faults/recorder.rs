//! What clients have seen: a file that only grows, a line for each thing, written before anybody acts on it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use contracts::google::longrunning::Operation;
use harness::uuid;
use prost::Message as _;
use tempfile::NamedTempFile;

/// Longer than a lease and than any pause between two attempts, also where much else is going on. Nothing that passes
/// waits for it.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Writes the file. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder(Arc<Inner>);

struct Inner {
    file: NamedTempFile,
    lines: Mutex<usize>,
    grown: Condvar,
    followers: AtomicU64,
}

impl Recorder {
    pub(super) fn new() -> Self {
        let file = NamedTempFile::new().expect("a temporary file");
        Self(Arc::new(Inner { file, lines: Mutex::default(), grown: Condvar::new(), followers: AtomicU64::default() }))
    }

    /// Somebody is about to ask for an operation.
    pub(super) fn asks(&self, request_id: &str) {
        self.write(&format!("asks {request_id}"));
    }

    /// It was acknowledged.
    pub(super) fn told(&self, request_id: &str, name: &str) {
        self.write(&format!("told {request_id} {name}"));
    }

    /// Somebody is about to ask it to stop.
    pub(super) fn cancels(&self, name: &str) {
        self.write(&format!("cancels {name}"));
    }

    /// Somebody begins to follow one operation, and will be told all of it or what is new; the number is theirs.
    pub(super) fn follows(&self, all: bool) -> u64 {
        let follower = self.0.followers.fetch_add(1, Ordering::Relaxed);
        self.write(&format!("follows {follower} {all}"));
        follower
    }

    /// A follower was told what the operation is now.
    pub(super) fn sees(&self, follower: u64, operation: &Operation) {
        let operation = STANDARD.encode(operation.encode_to_vec());
        self.write(&format!("sees {follower} {operation}"));
    }

    fn write(&self, line: &str) {
        let mut lines = self.0.lines.lock().expect("no panic");
        let mut file: &File = self.0.file.as_file();
        file.write_all(format!("{line}\n").as_bytes()).expect("a disk");
        *lines += 1;
        self.0.grown.notify_all();
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> usize {
        *self.0.lines.lock().expect("no panic")
    }

    /// Waits until there are this many more.
    pub(super) fn grows(&self, by: usize) {
        self.reaches(self.lines() + by);
    }

    /// Waits until there are this many.
    pub(super) fn reaches(&self, enough: usize) {
        let lines = self.0.lines.lock().expect("no panic");
        let waited = self.0.grown.wait_timeout_while(lines, LIMIT, |lines| *lines < enough).expect("no panic");
        assert!(*waited.0 >= enough, "nothing happens any more");
    }

    /// Keeps it for whoever wants to know what a test that fails has seen.
    pub(super) fn keep(&self) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recorder-{}", uuid()));
        std::fs::copy(self.0.file.path(), &kept).expect("a disk");
        eprintln!("--- what its clients have seen: {}", kept.display());
    }

    /// All of it.
    pub(super) fn read(&self) -> Record {
        let text = std::fs::read_to_string(self.0.file.path()).expect("the file");
        let mut record = Record::default();
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["asks", request_id] => drop(record.asked.insert(request_id.to_owned())),
                ["told", request_id, name] => record.told.push((request_id.to_owned(), name.to_owned())),
                ["cancels", name] => drop(record.cancelled.insert(name.to_owned())),
                ["follows", follower, all] => drop(record.seen.insert(number(follower), Seen::new(all == "true"))),
                ["sees", follower, operation] => {
                    let operation = STANDARD.decode(operation).expect("base64");
                    let operation = Operation::decode(&*operation).expect("an operation");
                    record.seen.get_mut(&number(follower)).expect("a follower").operations.push(operation);
                }
                _ => panic!("not a line of the recorder: {line}"),
            }
        }
        record
    }
}

/// What the file says.
#[derive(Default)]
pub(super) struct Record {
    /// The ids under which operations were asked for.
    pub(super) asked: BTreeSet<String>,
    /// Ids and names, one pair for each acknowledgement.
    pub(super) told: Vec<(String, String)>,
    /// The names of what was asked to stop.
    pub(super) cancelled: BTreeSet<String>,
    /// By follower.
    pub(super) seen: BTreeMap<u64, Seen>,
}

/// What a follower was told.
pub(super) struct Seen {
    /// Whether no progress was to be left out.
    pub(super) all: bool,
    /// In the order in which it was told.
    pub(super) operations: Vec<Operation>,
}

impl Seen {
    fn new(all: bool) -> Self {
        Self { all, operations: Vec::new() }
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
