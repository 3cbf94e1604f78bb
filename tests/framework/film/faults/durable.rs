//! An acknowledgement means that it is on the disk, which a kill cannot show: the kernel keeps what a process has
//! written. So what is counted is how often the kernel is asked to flush.

use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Process, Session, find_program, skip, uuid};

use super::system::System;

/// How many ask, one after the other, and then together.
const ALONE: usize = 20;
const TOGETHER: usize = 300;

#[test]
fn each_acknowledgement_is_flushed_and_many_of_them_together() {
    let Some((strace, folder)) = strace() else { return };
    let system = System::in_one(Process::start_under(strace, "monolith"));
    // Nobody begins what is started, so nothing else is written.
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

/// How often the log of artwork's database was flushed.
fn flushes(calls: &Path) -> usize {
    let calls = std::fs::read_to_string(calls).expect("what strace writes");
    calls.lines().filter(|line| line.contains("sync(") && line.contains("artwork.db-wal")).count()
}

/// strace, that looks on from aside and so leaves the process to the test, and where it writes; `None`, and a word about
/// it, where there is none.
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
        skip("strace", "scripts/tools strace brings it");
        return None;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut strace = Command::new(program);
    strace.args(["-D", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o"]).arg(folder.path().join("calls"));
    Some((strace, folder))
}
