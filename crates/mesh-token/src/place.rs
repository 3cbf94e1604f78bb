//! Where the keys of an issuer are.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::get::get;
use crate::json;
use crate::jwks::MAX_BYTES;
use crate::url::Url;

/// Where the keys of an issuer are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In a document of the issuer, which says where its keys are (OpenID Connect Discovery).
    Discovery { issuer: String, document: Url },
    /// A set of keys.
    Set(Url),
    /// A set of keys in a file.
    File(PathBuf),
    #[cfg(test)]
    Fake(std::sync::Arc<fake::Fake>),
}

impl Place {
    /// Whether it is a file that is not there, as that of the issuer of development before its first token.
    pub(crate) fn is_missing_file(&self) -> bool {
        matches!(self, Self::File(path) if !path.exists())
    }

    /// The set of keys.
    ///
    /// # Errors
    ///
    /// Why it is not there.
    pub(crate) async fn read(&self, roots: Option<PathBuf>) -> Result<Vec<u8>, String> {
        match self {
            Self::Discovery { issuer, document } => {
                let set = discovered(&get(document, roots.clone(), MAX_BYTES).await?, issuer)
                    .map_err(|why| format!("{} {why}", document.0))?;
                get(&set, roots, MAX_BYTES).await
            }
            Self::Set(url) => get(url, roots, MAX_BYTES).await,
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            }
            #[cfg(test)]
            Self::Fake(fake) => fake.read().await,
        }
    }
}

/// The address of the keys, by the document of the issuer.
fn discovered(document: &[u8], issuer: &str) -> Result<Url, String> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let document: Document = json::object(document).map_err(|error| format!("is {error}"))?;
    if document.issuer != issuer {
        let named = document.issuer.escape_debug();
        return Err(format!("is of the issuer `{named}`, not of `{issuer}`: both must be the same to the byte"));
    }
    Url::parse(&document.jwks_uri).map_err(|why| format!("has a `jwks_uri` that {why}"))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    // To open a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    let mut contents = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut contents).map_err(unreadable)?;
    Ok(contents)
}

#[cfg(test)]
pub(crate) mod fake {
    //! Keys in memory: sockets and files do not wait for virtual time.

    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[derive(Debug)]
    pub(crate) struct Fake {
        pub(crate) answer: Mutex<Result<String, String>>,
        pub(crate) delay: Mutex<Duration>,
        pub(crate) reads: AtomicUsize,
    }

    impl Fake {
        pub(super) async fn read(&self) -> Result<Vec<u8>, String> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let delay = *self.delay.lock().unwrap();
            tokio::time::sleep(delay).await;
            self.answer.lock().unwrap().clone().map(String::into_bytes)
        }
    }
}

#[cfg(test)]
mod tests;
