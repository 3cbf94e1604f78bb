//! The records of clients: a file that only grows, with a line for each event, written before the client acts on it.

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

/// Longer than a lease and than any pause between two attempts, also on a busy machine. A test that passes never waits
/// that long.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// Writes the records. Cheap to clone.
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

    /// A client is about to request an operation.
    pub(super) fn asks(&self, request_id: &str) {
        self.write(&format!("asks {request_id}"));
    }

    /// The request was acknowledged.
    pub(super) fn acknowledged(&self, request_id: &str, name: &str) {
        self.write(&format!("acknowledged {request_id} {name}"));
    }

    /// A client is about to cancel an operation.
    pub(super) fn cancels(&self, name: &str) {
        self.write(&format!("cancels {name}"));
    }

    /// A client starts to follow one operation, with `all` progress or without. Returns the follower's number.
    pub(super) fn follows(&self, all: bool) -> u64 {
        let follower = self.0.followers.fetch_add(1, Ordering::Relaxed);
        self.write(&format!("follows {follower} {all}"));
        follower
    }

    /// A follower received the operation.
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

    /// The number of lines.
    pub(super) fn lines(&self) -> usize {
        *self.0.lines.lock().expect("no panic")
    }

    /// Waits until there are this many more lines.
    pub(super) fn grows(&self, by: usize) {
        self.reaches(self.lines() + by);
    }

    /// Waits until there are this many lines.
    pub(super) fn reaches(&self, enough: usize) {
        let lines = self.0.lines.lock().expect("no panic");
        let waited = self.0.grown.wait_timeout_while(lines, LIMIT, |lines| *lines < enough).expect("no panic");
        assert!(*waited.0 >= enough, "the recorder got no further lines");
    }

    /// Keeps the file for the analysis of a failed test.
    pub(super) fn keep(&self) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recorder-{}", uuid()));
        std::fs::copy(self.0.file.path(), &kept).expect("a disk");
        eprintln!("--- the records of its clients: {}", kept.display());
    }

    /// All records.
    pub(super) fn read(&self) -> Record {
        let text = std::fs::read_to_string(self.0.file.path()).expect("the file");
        let mut record = Record::default();
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["asks", request_id] => drop(record.asked.insert(request_id.to_owned())),
                ["acknowledged", request_id, name] => {
                    record.acknowledged.push((request_id.to_owned(), name.to_owned()))
                }
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

/// The contents of the file.
#[derive(Default)]
pub(super) struct Record {
    /// The request ids of all requested operations.
    pub(super) asked: BTreeSet<String>,
    /// Request ids and names, a pair for each acknowledgement.
    pub(super) acknowledged: Vec<(String, String)>,
    /// The names of all operations that a client cancelled.
    pub(super) cancelled: BTreeSet<String>,
    /// By follower.
    pub(super) seen: BTreeMap<u64, Seen>,
}

/// The operations that a follower received.
pub(super) struct Seen {
    /// Whether the follower asked for all progress.
    pub(super) all: bool,
    /// In the order of arrival.
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
