//! `scripts/reset-data`, run from another folder on databases in a temporary one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Two databases, and a file that is none.
const FILES: [&str; 5] = ["artwork.db", "catalog.db", "catalog.db-wal", "catalog.db.lock", "notes.txt"];

fn data() -> tempfile::TempDir {
    let data = tempfile::tempdir().expect("a temporary folder");
    FILES.iter().for_each(|name| fs::write(data.path().join(name), "").expect("a file"));
    data
}

fn reset(data: &Path, arguments: &[&str]) -> Output {
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../scripts/reset-data"].iter().collect();
    let mut reset = Command::new("bash");
    reset.arg(script).args(arguments).current_dir(data).env("MESH__DATA_DIR", data);
    reset.output().expect("bash runs")
}

/// The names of the files in a folder, in order.
fn names(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The one line of a refusal.
fn refusal(reset: &Output) -> String {
    let line = String::from_utf8(reset.stderr.clone()).expect("UTF-8");
    assert_eq!((reset.status.code(), line.lines().count(), &*reset.stdout), (Some(1), 1, &b""[..]), "{reset:?}");
    line
}

#[test]
fn reset_data_removes_one_service_or_all_databases() {
    let data = data();
    let one = reset(data.path(), &["catalog"]);
    assert!(one.status.success(), "{one:?}");
    let lines = String::from_utf8(one.stdout).expect("UTF-8");
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("removed ")), "{lines}");
    assert_eq!(names(data.path()), ["artwork.db", "notes.txt"]);

    assert!(reset(data.path(), &[]).status.success());
    assert_eq!(names(data.path()), ["notes.txt"]);
}

#[test]
fn reset_data_refuses_while_a_process_holds_a_database() {
    let data = data();
    // The same lock as that of a running service.
    let lock = File::options().write(true).open(data.path().join("catalog.db.lock")).expect("the lock file");
    lock.try_lock().expect("a free lock");
    for arguments in [&["catalog"][..], &[]] {
        let line = refusal(&reset(data.path(), arguments));
        assert!(line.contains("catalog.db.lock is held by"), "{line}");
        assert_eq!(names(data.path()), FILES);
    }
    assert!(reset(data.path(), &["artwork"]).status.success(), "the other database is free");
    // Not by closing it alone: a process that another test starts at this moment has a copy of the open file.
    lock.unlock().expect("the lock is ours");
    drop(lock);
    assert!(reset(data.path(), &["catalog"]).status.success());
}

#[test]
fn reset_data_refuses_a_wrong_command_line() {
    let data = data();
    for (arguments, expected) in [
        (&["--all"][..], "there is no option `--all`"),
        (&["../catalog"], "`../catalog` is not a service name"),
        (&["unheard_of"], "there is no service `unheard_of`"),
        (&["artwork", "catalog"], "got 2 arguments"),
    ] {
        let line = refusal(&reset(data.path(), arguments));
        assert!(line.contains(expected), "{line}");
    }
    assert_eq!(names(data.path()), FILES);
}
