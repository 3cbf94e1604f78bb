//! Programs in Python, such as services in another language: run alone, with an address to listen on in `SIDECAR_APP`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Curl, Grpcurl, eventually, find_program, root, skip};

/// The interpreter, for a program that needs the standard library alone; prints a note if there is none.
pub fn python() -> Option<PathBuf> {
    let found = environment().or_else(|| find_program("python3", &[]));
    if found.is_none() {
        skip("Python", "the package manager of the system has it");
    }
    found
}

/// The interpreter with the packages of a list, a file of the project; prints a note if one is missing.
pub fn python_with(list: &str) -> Option<PathBuf> {
    let found = environment().filter(|python| {
        let satisfied = "import importlib.metadata as m, sys\n\
            lines = (line.split('#')[0].strip() for line in open(sys.argv[1]))\n\
            sys.exit(any(m.version(line.split('==')[0]) != line.split('==')[1] for line in lines if line))";
        let check = Command::new(python).args(["-c", satisfied]).arg(root().join(list)).output();
        check.is_ok_and(|check| check.status.success())
    });
    if found.is_none() {
        skip(&format!("a package of {list}"), "`scripts/tools python` installs them");
    }
    found
}

/// What `scripts/tools python` makes.
fn environment() -> Option<PathBuf> {
    Some(root().join(".tools/python/bin/python3")).filter(|python| python.is_file())
}

/// A running program. It is killed when this is dropped.
pub struct Program {
    child: Child,
    /// The address it listens on.
    pub address: SocketAddr,
    /// Its working directory, with its data and its log.
    pub folder: TempDir,
}

impl Program {
    /// Starts a program of the project on a free port, in an empty folder, and waits until it listens.
    pub fn start(python: &Path, program: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), python, program, environment)
    }

    /// Like [`start`](Self::start), in the folder of an earlier program.
    pub fn start_in(folder: TempDir, python: &Path, program: &str, environment: &[(&str, &str)]) -> Self {
        let log = folder.path().join("log");
        let mut command = Command::new(python);
        // The tests leave the tree as it is.
        command.arg("-B").arg(root().join(program)).current_dir(folder.path()).env("SIDECAR_APP", "127.0.0.1:0");
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("python starts");
        let address = eventually("the program listens", || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let ended = child.try_wait().expect("a child").is_some();
            assert!(!ended, "{program} has ended; its log:\n{text}");
            text.lines().find_map(|line| line.split_once(" listening on ")?.1.parse().ok())
        });
        Self { child, address, folder }
    }

    /// curl for this program.
    pub fn curl(&self) -> Curl {
        Curl::to(self.address)
    }

    /// grpcurl for this program.
    pub fn grpcurl(&self) -> Grpcurl {
        Grpcurl::to(self.address)
    }

    /// Everything it has written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// Sends a signal by name: `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }

    /// Waits until it exits; returns its exit status and how long that took.
    pub fn ended(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let status = eventually("the program ends", || self.child.try_wait().expect("a child"));
        (status, start.elapsed())
    }

    /// Kills it without warning and returns its folder.
    pub fn kill(mut self) -> TempDir {
        self.signal("KILL");
        self.ended();
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a temporary folder"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
