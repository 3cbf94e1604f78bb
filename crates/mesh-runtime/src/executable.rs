//! The build of this process: its version, and the digest of its executable.
//!
//! Equal executables have equal digests, on every machine. Another compiler, feature or dependency gives another
//! digest, even if no contract has changed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};

use ring::digest::{Context, SHA256};
use tokio::sync::OnceCell;

/// The version of the workspace, as `--version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The revision of the source, if the build was told it by the variable `MESH_REVISION`.
pub const REVISION: &str = match option_env!("MESH_REVISION") {
    Some(revision) => revision,
    None => "",
};

/// The SHA-256 of the executable, in 64 hexadecimal digits; `None` if the file cannot be read. It is read once, in a
/// thread of its own.
pub async fn digest() -> Option<&'static str> {
    let read = || async {
        let read = tokio::task::spawn_blocking(|| open().and_then(hash)).await;
        read.ok().and_then(Result::ok)
    };
    DIGEST.get_or_init(read).await.as_deref()
}

/// The [`digest`], if it was read already.
pub fn known_digest() -> Option<&'static str> {
    DIGEST.get()?.as_deref()
}

static DIGEST: OnceCell<Option<String>> = OnceCell::const_new();

/// Opens the file that runs, also after a deployment has replaced it.
fn open() -> io::Result<File> {
    if cfg!(target_os = "linux") {
        return File::open("/proc/self/exe");
    }
    File::open(std::env::current_exe()?)
}

fn hash(mut file: impl Read) -> io::Result<String> {
    let (mut context, mut chunk) = (Context::new(&SHA256), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(length) => context.update(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut digits = String::new();
    for byte in context.finish().as_ref() {
        // Writing to a `String` never fails.
        let _ = write!(digits, "{byte:02x}");
    }
    Ok(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn digest_is_the_sha_256_of_the_executable() {
        // The first example of FIPS 180-2.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash(&b"abc"[..]).unwrap(), expected);
        let own = hash(File::open(std::env::current_exe().unwrap()).unwrap()).unwrap();
        assert_eq!(digest().await, Some(&*own));
    }
}
