//! The programs that tests need and this project does not build: finding them, missing them, waiting for them. The tests
//! of `mesh` use this file, too.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; nothing that passes waits for it.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Asks until there is an answer.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
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
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// A tool that a test cannot do without: in CI its absence is a failure, elsewhere a reason to skip.
pub fn skip(what: &str, how: &str) {
    let message = format!("SKIPPED: {what} is not installed; {how}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
    // Not by a macro of the standard library, which the test runner would swallow.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Looks for a program in `.tools/bin`, on PATH, and in `more`.
pub fn find_program(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Beside the manifest of this crate, or of the workspace around it.
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(".tools/bin"));
    let folders = tools.chain(std::env::split_paths(&path)).chain(more.iter().cloned());
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
