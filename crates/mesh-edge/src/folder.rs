//! The files of a folder, in memory: what `edge.web` names.
//!
//! Guarantees:
//! - Only regular files of the folder and of those below it are read. Hidden files and symbolic links are left out.
//! - There are at most [`MOST_FILES`] files, of [`MOST_BYTES`] together.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

const MOST_FILES: usize = 1000;
const MOST_BYTES: u64 = 16 << 20;
/// The file that the address of the folder itself shows.
pub(crate) const INDEX: &str = "index.html";

/// A folder and the path that it is served at.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    /// Such as `/demo`.
    pub(crate) at: String,
    /// By their names below the folder, such as `scripts/main.js`.
    pub(crate) files: Arc<BTreeMap<String, Bytes>>,
}

impl Folder {
    /// Reads a folder, which [`named`] has found in a value.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words that continue the name of the key.
    pub(crate) fn read(at: &str, folder: &Path) -> Result<Self, String> {
        if RESERVED.contains(&at) {
            return Err(format!("has the path `{at}`, which the pages of the process have: choose another path"));
        }
        let files = files(folder)?;
        if !files.contains_key(INDEX) {
            return Err(format!("names the folder {}, which has no {INDEX}: add one", folder.display()));
        }
        Ok(Self { at: at.to_owned(), files: Arc::new(files) })
    }
}

/// The paths of pages that every process has.
const RESERVED: [&str; 5] = ["/docs", "/errors", "/healthz", "/metrics", "/readyz"];

/// The parts of a value `PATH=FOLDER`. `None`: it is no such value.
pub(crate) fn named(value: &str) -> Option<(&str, &str)> {
    let (at, folder) = value.split_once('=')?;
    let name = at.strip_prefix('/')?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!name.is_empty() && name.bytes().all(valid) && !folder.is_empty()).then_some((at, folder))
}

fn files(root: &Path) -> Result<BTreeMap<String, Bytes>, String> {
    let mut files = BTreeMap::new();
    let mut room = MOST_BYTES;
    let mut ahead = vec![(root.to_owned(), String::new())];
    while let Some((folder, prefix)) = ahead.pop() {
        let unreadable = |error| format!("names the folder {}, which cannot be read: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let kind = entry.file_type().map_err(unreadable)?;
            let path = entry.path();
            let name = entry.file_name().into_string();
            let name = name.map_err(|_| format!("has the file {}, whose name is not UTF-8", path.display()))?;
            let name = format!("{prefix}{name}");
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
            } else if kind.is_dir() {
                ahead.push((path, format!("{name}/")));
            } else if kind.is_file() {
                let content = content(&path, room)
                    .map_err(|error| format!("has the file {}, which cannot be read: {error}", path.display()))?;
                room = room.checked_sub(content.len() as u64).ok_or_else(|| too_much(root, "16 MiB"))?;
                files.insert(name, content);
                if files.len() > MOST_FILES {
                    return Err(too_much(root, "1000 files"));
                }
            }
        }
    }
    Ok(files)
}

/// The content of a file, and at most one byte beyond `most`.
fn content(path: &Path, most: u64) -> std::io::Result<Bytes> {
    let mut content = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut content)?;
    Ok(content.into())
}

fn too_much(root: &Path, limit: &str) -> String {
    format!("names the folder {}, which has more than {limit}: name a smaller one", root.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn read(at: &str, folder: &tempfile::TempDir) -> Result<Folder, String> {
        Folder::read(at, folder.path())
    }

    #[test]
    fn folder_value_has_a_path_of_one_segment_and_a_folder() {
        assert_eq!(named("/demo=examples/web"), Some(("/demo", "examples/web")));
        assert_eq!(named("/my-App2=a=b"), Some(("/my-App2", "a=b")));
        for wrong in
            ["", "/demo", "demo=web", "/=web", "/demo=", "/a/b=web", "/a.b=web", "/demo/=web", "/ä=web", "=web"]
        {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn folder_leaves_out_hidden_files_and_symbolic_links() {
        let folder =
            folder(&[("index.html", b"1"), ("a/b/c.js", b"2"), (".env", b"3"), (".git/config", b"4"), ("a/.x", b"5")]);
        let secret = folder.path().join(".env");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&secret, folder.path().join("link.txt")).unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink("/", folder.path().join("root")).unwrap();
        let read = read("/demo", &folder).unwrap();
        assert_eq!(read.files.keys().collect::<Vec<_>>(), ["a/b/c.js", "index.html"]);
        assert_eq!(&read.files["a/b/c.js"][..], b"2");
    }

    #[test]
    fn folder_that_cannot_be_served_is_described() {
        let good = folder(&[("index.html", b"")]);
        for at in RESERVED {
            assert!(read(at, &good).unwrap_err().contains("choose another"), "{at}");
        }
        assert!(Folder::read("/demo", Path::new("no/folder")).unwrap_err().contains("no/folder, which cannot be read"));
        assert!(read("/demo", &folder(&[("main.js", b"")])).unwrap_err().contains("no index.html"));
    }

    #[test]
    fn folder_has_limits() {
        let full = folder(&[("index.html", b"")]);
        fs::write(full.path().join("large"), vec![0; MOST_BYTES as usize]).unwrap();
        assert!(read("/demo", &full).is_ok());
        fs::write(full.path().join("more"), b"1").unwrap();
        assert!(read("/demo", &full).unwrap_err().contains("more than 16 MiB"));

        let many = folder(&[("index.html", b"")]);
        (1..MOST_FILES).for_each(|at| fs::write(many.path().join(at.to_string()), b"").unwrap());
        assert_eq!(read("/demo", &many).unwrap().files.len(), MOST_FILES);
        fs::write(many.path().join("more"), b"").unwrap();
        assert!(read("/demo", &many).unwrap_err().contains("more than 1000 files"));
    }
}
