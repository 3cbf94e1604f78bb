//! An acknowledged start is on the disk. A kill cannot show that, because the kernel keeps what a process has written;
//! so the test counts the calls of fsync.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Process, Session, find_program, skip, uuid};

use super::system::System;

/// The number of starts one after the other, and then at the same time.
const ALONE: usize = 20;
const TOGETHER: usize = 300;

#[test]
fn acknowledgements_are_flushed_in_groups() {
    let Some((strace, folder)) = strace() else { return };
    let system = System::in_one(Process::start_under(strace, "monolith"));
    // No worker claims the operations, so nothing else is written.
    let later = "UPDATE operations SET run_at = 9000000000000000 WHERE id = NEW.id;";
    Session::open(&system.database)
        .execute(&format!("CREATE TRIGGER later AFTER INSERT ON operations BEGIN {later} END"));
    let caller = system.caller();
    let flushed = || flushes(&folder.path().join("calls"));

    let before = flushed();
    system.run(async {
        for _ in 0..ALONE {
            caller.start(&uuid()).await;
        }
    });
    let alone = flushed() - before;
    assert!(alone >= ALONE, "{alone} flushes for {ALONE} acknowledgements, one after the other");

    let before = flushed();
    let together = (0..TOGETHER).map(|_| {
        let caller = caller.clone();
        system.spawn(async move { caller.start(&uuid()).await })
    });
    system.join(together.collect());
    let together = flushed() - before;
    assert!((1..TOGETHER).contains(&together), "{together} flushes for {TOGETHER} acknowledgements at the same time");
}

/// The number of flushes of the WAL of artwork's database.
fn flushes(calls: &Path) -> usize {
    let calls = std::fs::read_to_string(calls).expect("the output of strace");
    calls.lines().filter(|line| line.contains("sync(") && line.contains("artwork.db-wal")).count()
}

/// strace as a grandchild of the process that it traces (`-D`), so that the test keeps its child, and the folder with
/// its output. Where strace does not work it prints a note and returns `None`.
fn strace() -> Option<(Command, tempfile::TempDir)> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let program = find_program("strace", &[]);
    let works = |program: &Path| {
        let tried = Command::new(program).args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let Some(program) = program.filter(|program| works(program)) else {
        skip("strace", "`scripts/tools strace` installs it");
        return None;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut strace = Command::new(program);
    strace.args(["-D", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o"]).arg(folder.path().join("calls"));
    Some((strace, folder))
}
