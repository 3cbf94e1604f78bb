//! Programs in Python, such as services in another language.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{find_program, root, skip};

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

/// A program of the project without its sidecar, on a free port: the app of a service, for
/// [`Process::spawn`](super::Process::spawn).
pub fn app(python: &Path, program: &str) -> Command {
    let mut command = Command::new(python);
    // The tests leave the tree as it is.
    command.arg("-B").arg(root().join(program)).env("SIDECAR_APP", "127.0.0.1:0");
    command
}
