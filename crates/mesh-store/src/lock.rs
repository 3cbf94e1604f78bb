//! The lock file beside an embedded database: one process at a time opens the database, and an emptied one is noticed.
//!
//! The lock ends with the process, however the process ends.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// The content of the lock file, once the database has a schema.
const MARK: &[u8] = b"the database beside this file has a schema\n";

/// The lock of an embedded database. Dropping it releases it.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes an operating-system lock on a file beside the database at `path`.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] while another process has it, [`OpenError::Unwritable`] if the file cannot be made.
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let beside = beside(path, ".lock");
        let unwritable = |cause| OpenError::Unwritable { path: beside.clone(), cause };
        let file = File::options().create(true).write(true).truncate(false).open(&beside).map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(cause)) => Err(unwritable(cause)),
        }
    }

    /// Notes that the database has a schema.
    pub(super) fn mark(&mut self) {
        // Without the mark, an emptied file is noticed only by its log. That is no reason not to start, as on a full
        // disk.
        if self.length() == 0 && self.0.write_all(MARK).is_err() {
            let _ = self.0.set_len(0);
        }
    }

    /// SQLite takes an empty file as a new database, and deletes a log that lies beside it. A file is emptied by a disk
    /// that was full during a copy, by a file system that lost its content in a power cut, or by a slip in a shell.
    ///
    /// # Errors
    ///
    /// [`OpenError::Emptied`].
    pub(super) fn refuse_emptied(&self, path: &Path) -> Result<(), OpenError> {
        let length_of = |path: &Path| std::fs::metadata(path).map(|file| file.len()).ok();
        // SQLite keeps the log beside the file that a link points to.
        let log = beside(&std::fs::canonicalize(path).unwrap_or(path.to_owned()), "-wal");
        let emptied = match length_of(path) {
            Some(0) => self.length() > 0 || length_of(&log).unwrap_or_default() > 0,
            // Without the file, its log may hold the only copy of the last commits.
            None => length_of(&log).unwrap_or_default() > 0,
            Some(_) => false,
        };
        if emptied { Err(OpenError::Emptied { path: path.to_owned() }) } else { Ok(()) }
    }

    fn length(&self) -> u64 {
        self.0.metadata().map(|file| file.len()).unwrap_or_default()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child process has a copy of the open file until it runs its own program. Closing ours would leave the lock
        // to that copy, and the next to open the database would be refused.
        let _ = self.0.unlock();
    }
}

/// The path of a file whose name continues that of the database.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(ending);
    beside.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_is_released_although_a_child_process_has_a_copy_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("things.db");
        let lock = Lock::take(&path).unwrap();
        let copy_of_child = lock.0.try_clone().unwrap();
        assert!(matches!(Lock::take(&path), Err(OpenError::Locked { .. })));

        drop(lock);
        Lock::take(&path).unwrap();
        drop(copy_of_child);
    }
}
