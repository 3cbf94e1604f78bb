//! The limit of open files: each connection takes one, and each file of a database.

/// Raises the soft limit to the hard limit, and returns the limit in force. `None`: the system reports none.
#[cfg(unix)]
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    /// The largest limit that macOS accepts where the hard limit is infinite.
    const OPEN_MAX: u64 = 10_240;

    let limit = getrlimit(Resource::Nofile);
    let raised = |to: u64| setrlimit(Resource::Nofile, Rlimit { current: Some(to), maximum: limit.maximum });
    for to in limit.maximum.into_iter().chain([OPEN_MAX]) {
        if limit.current.is_some_and(|current| current < to) && raised(to).is_ok() {
            break;
        }
    }
    getrlimit(Resource::Nofile).current
}

/// Returns `None`: the system has no such limit.
#[cfg(not(unix))]
pub fn raise_open_files() -> Option<u64> {
    None
}
