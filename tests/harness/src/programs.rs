//! The installed programs that tests need: finding them, skipping a test without them, and waiting for them. The tests
//! of `mesh` use this file, too.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The limit of every wait: long enough for a busy machine. A test that passes never waits that long.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Asks again until there is an answer; panics after [`LIMIT`].
pub fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    eventually_within(LIMIT, what, ask)
}

/// Like [`eventually`], with another limit.
pub fn eventually_within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "another process cannot be awaited, only asked again")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

/// Prints that a program is missing, so that the test can return. With `CI=true` it panics instead.
pub fn skip(what: &str, how: &str) {
    skip_unless(&["true", "foreign"], what, how);
}

/// Like [`skip`], for a program that only `.ci/foreign` installs. With `CI=foreign` it panics instead.
pub fn skip_foreign(what: &str, how: &str) {
    skip_unless(&["foreign"], what, how);
}

fn skip_unless(required_by: &[&str], what: &str, how: &str) {
    let message = format!("SKIPPED: {what} is not installed; {how}");
    assert!(!std::env::var("CI").is_ok_and(|ci| required_by.contains(&&*ci)), "{message}");
    // `eprintln!` would be captured by the test runner.
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Looks for a program in `.tools/bin`, on PATH, and in `more`.
pub fn find_program(name: &str, more: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // `.tools` is beside the manifest of this crate, or of a workspace around it.
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join(".tools/bin"));
    let folders = tools.chain(std::env::split_paths(&path)).chain(more.iter().cloned());
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
