//! Finds installed programs and their versions.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The path of a program: in `.tools/bin`, where scripts/tools installs, or on PATH, or in `more`. Tests use the same
/// order.
pub(crate) fn find(name: &str, more: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(Path::new(".tools/bin").to_owned()).chain(std::env::split_paths(&path)).chain(more);
    let mut programs = folders.map(|folder| folder.join(name).with_extension(std::env::consts::EXE_EXTENSION));
    let found = programs.find(|program| program.is_file())?;
    // An absolute path: a bare relative name would be looked up on PATH.
    std::path::absolute(found).ok()
}

/// A version, compared number by number: 1.95 < 1.95.0 < 1.100.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(Vec<u32>);

impl Version {
    /// The version that a program prints; `None` if it prints none, as some builds do.
    pub(crate) fn of(program: &Path, option: &str) -> Option<Self> {
        let output = Command::new(program).arg(option).stdin(Stdio::null()).output().ok()?;
        // Some programs print it to standard error.
        let output = [output.stdout, output.stderr].concat();
        Self::read(&String::from_utf8_lossy(&output))
    }

    /// The version in a text: the first word of numbers joined by dots.
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
    fn version_is_read_from_the_output_of_programs() {
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
    fn version_compares_by_number() {
        let version = |text| Version::read(text).unwrap();
        assert!(version("1.100.0") > version("1.95.0"));
        assert!(version("1.95.0") >= Version::from([1, 95]) && version("1.94.9") < Version::from([1, 95]));
    }
}
