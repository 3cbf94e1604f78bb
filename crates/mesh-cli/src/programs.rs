//! Programs that this project does not build: where they are, and which version.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Looks where scripts/tools puts what it brings, then on PATH, then in `more`: the order in which tests look.
pub(crate) fn find(name: &str, more: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(Path::new(".tools/bin").to_owned()).chain(std::env::split_paths(&path)).chain(more);
    let mut programs = folders.map(|folder| folder.join(name).with_extension(std::env::consts::EXE_EXTENSION));
    let found = programs.find(|program| program.is_file())?;
    // A relative path to a program is looked for on PATH if it is a bare name, and is told better in full.
    std::path::absolute(found).ok()
}

/// A version of something, by its numbers: 1.95 is older than 1.95.0, and 1.100 is newer than both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(Vec<u32>);

impl Version {
    /// What a program says of itself; `None` if that cannot be read: some are built without saying.
    pub(crate) fn of(program: &Path, option: &str) -> Option<Self> {
        let said = Command::new(program).arg(option).stdin(Stdio::null()).output().ok()?;
        // Some say it on standard error.
        let said = [said.stdout, said.stderr].concat();
        Self::read(&String::from_utf8_lossy(&said))
    }

    /// The first word with numbers between dots.
    pub(crate) fn read(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let parts: Vec<_> = word.trim_start_matches('v').split('.').map_while(leading_number).collect();
            (parts.len() > 1).then_some(Self(parts))
        })
    }
}

impl<const N: usize> From<[u32; N]> for Version {
    fn from(parts: [u32; N]) -> Self {
        Self(parts.into())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&parts.join("."))
    }
}

fn leading_number(part: &str) -> Option<u32> {
    part.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        let read = |text| Version::read(text).map(|version| version.to_string());
        assert_eq!(read("rustc 1.95.0 (59807616e 2026-04-14)").as_deref(), Some("1.95.0"));
        assert_eq!(read("cargo 1.97.0-nightly").as_deref(), Some("1.97.0"));
        assert_eq!(read("Consul v1.8.7\nProtocol 2 spoken by default").as_deref(), Some("1.8.7"));
        assert_eq!(read("initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)").as_deref(), Some("15.18"));
        assert_eq!(read("strace -- version 6.1").as_deref(), Some("6.1"));
        assert_eq!(read("grpcurl dev build <no version set>"), None);
        assert_eq!(read("see the manual. Or 7."), None);
    }

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text| Version::read(text).unwrap();
        assert!(version("1.100.0") > version("1.95.0"));
        assert!(version("1.95.0") >= Version::from([1, 95]) && version("1.94.9") < Version::from([1, 95]));
    }
}
