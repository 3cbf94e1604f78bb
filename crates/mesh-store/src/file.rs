//! Whether an embedded database is still the file at its path.
//!
//! A removed file takes writes until its last connection closes, and then they are gone. SQLite notices it with a
//! rollback journal only, not with a write-ahead log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::condition::Condition;
use super::error::Error;

/// The files of an open database: the database itself and its write-ahead log. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile(Arc<[(PathBuf, FileId)]>);

/// Distinguishes the files of a machine.
type FileId = (u64, u64);

impl DatabaseFile {
    /// Remembers the files at `path`. A connection that has read the database must be open, since it opens the log.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let files = [path.to_owned(), log.into()].map(|path| id(&path).map(|id| (path, id)));
        files.into_iter().collect::<io::Result<_>>().map(Self)
    }

    /// The path of the database.
    pub(super) fn path(&self) -> &Path {
        &self.0[0].0
    }

    /// Checks that the open files are those at the paths.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] under [`Condition::Moved`].
    pub(super) fn is_in_place(&self) -> Result<(), Error> {
        let moved = |path: &Path| Error::unavailable(Condition::Moved, io::Error::other(format!("{path:?}")).into());
        for (path, open) in self.0.iter() {
            match id(path) {
                Ok(found) if found == *open => {}
                Ok(_) => return Err(moved(path)),
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                    return Err(moved(path));
                }
                // A folder that cannot be searched for a while says nothing about the file.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(unix)]
fn id(path: &Path) -> io::Result<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// An open file cannot be removed there, so that its existence is enough.
#[cfg(not(unix))]
fn id(path: &Path) -> io::Result<FileId> {
    std::fs::metadata(path).map(|_| (0, 0))
}
