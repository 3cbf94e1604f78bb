//! How tests start, call and stop real processes.
//!
//! Nothing here uses a fixed port or sleeps until something ought to be ready: a process says where it listens, and
//! everything else is asked again until it answers or a limit is reached.

mod consul;
mod grpcurl;
pub(crate) mod postgres;
mod process;
mod proxy;
mod raw;
mod sql;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub(crate) use consul::Consul;
pub(crate) use grpcurl::Grpcurl;
pub(crate) use process::{Process, command, output, output_in};
pub(crate) use proxy::Proxy;
pub(crate) use raw::RawCall;
pub(crate) use sql::execute;

/// Where this project is.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Long enough for a busy machine; nothing that passes waits for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "between two questions to another process there is nothing to wait for")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// A tool that a test cannot do without: in CI its absence is a failure, elsewhere a reason to skip.
pub(crate) fn skip(what: &str, how: &str) {
    let message = format!("SKIPPED: {what} is not installed; {how}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not by a macro of the standard library, which the test runner would swallow.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Looks for a program in `.tools/bin`, on PATH, and in `more`.
pub(crate) fn find_program(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let tools = root().join(".tools/bin");
    let folders = std::iter::once(tools).chain(std::env::split_paths(&path)).chain(more.iter().cloned());
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A UUID that nobody has used before.
pub(crate) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
