//! Checks programs: presence, oldest usable version, use, and how to install them.

use std::path::{Path, PathBuf};

use super::finding::{Finding, Need, State};
use crate::programs::{self, Version};

/// A program that this project uses.
struct Tool {
    name: &'static str,
    /// The file name to look for.
    program: &'static str,
    /// The argument that prints the version.
    option: &'static str,
    need: Need,
    /// The oldest version that works.
    least: Option<Version>,
    serves: &'static str,
    remedy: Remedy,
}

/// The way to install a tool.
enum Remedy {
    /// `scripts/tools NAME`. The script keeps an installed tool, even if it is too old.
    Script,
    /// A command to type.
    Command(&'static str),
}

/// Checks all tools.
pub(super) fn look() -> Vec<Finding> {
    tools().into_iter().map(Tool::look).collect()
}

fn tools() -> Vec<Tool> {
    let mut tools = vec![
        needed("rustc", rust_version(), "compiling", Remedy::Command(RUST)),
        needed("cargo", rust_version(), "compiling", Remedy::Command(RUST)),
        needed("cc", None, "linking, and SQLite", Remedy::Command(CC)),
        // The version that scripts/tools installs through pip.
        optional("grpcurl", Some([1, 8].into()), "calls by hand, tests", Remedy::Script),
        // See crates/consul-api-client.
        optional("consul", Some([1, 8].into()), "scripts/up, tests", Remedy::Script),
        // Older versions of initdb lack an option that tests use.
        Tool {
            program: "initdb",
            ..optional("postgres", Some([14].into()), "a database that replicas share, tests", Remedy::Script)
        },
        // The first version that reads version 2 of buf.yaml.
        optional("buf", Some([1, 32].into()), "buf lint, after a change of contracts", Remedy::Command(BUF)),
        optional(
            "cargo-generate",
            Some([0, 26].into()),
            "making a project from the template",
            Remedy::Command(GENERATE),
        ),
    ];
    if cfg!(target_os = "linux") {
        tools.push(optional("strace", None, "a test that counts disk flushes", Remedy::Script));
    }
    tools
}

const RUST: &str = "rustup update; without rustup, see https://rustup.rs";
const CC: &str = if cfg!(target_os = "macos") { "xcode-select --install" } else { "sudo apt-get install gcc" };
const BUF: &str = if cfg!(target_os = "macos") { "brew install buf" } else { "npm install --global @bufbuild/buf" };
// The same command as in the README. cargo-generate declares a newer Rust than it needs.
const GENERATE: &str = "cargo install cargo-generate --locked --ignore-rust-version";

/// The version that Cargo.toml requires.
fn rust_version() -> Option<Version> {
    Version::read(env!("CARGO_PKG_RUST_VERSION"))
}

fn needed(name: &'static str, least: Option<Version>, serves: &'static str, remedy: Remedy) -> Tool {
    Tool { need: Need::Needed, ..optional(name, least, serves, remedy) }
}

fn optional(name: &'static str, least: Option<Version>, serves: &'static str, remedy: Remedy) -> Tool {
    // Some versions of consul do not know `--version`.
    let option = if name == "consul" { "version" } else { "--version" };
    Tool { name, program: name, option, need: Need::Optional, least, serves, remedy }
}

impl Tool {
    fn look(self) -> Finding {
        let more = if self.program == "initdb" { postgres_folders() } else { Vec::new() };
        let program = programs::find(self.program, more);
        let version = program.as_ref().and_then(|program| Version::of(program, self.option));
        self.judge(program.as_deref(), version.as_ref())
    }

    /// A program that prints no version counts as new enough.
    fn judge(&self, program: Option<&Path>, version: Option<&Version>) -> Finding {
        let too_old = version.zip(self.least.as_ref()).is_some_and(|(version, least)| version < least);
        let state = match program {
            None => State::Missing,
            Some(_) if too_old => State::TooOld,
            Some(_) => State::Ok,
        };
        let version = version.map(ToString::to_string);
        let found = version.into_iter().chain(program.map(|program| program.display().to_string()));
        Finding {
            what: self.name.to_owned(),
            need: self.need,
            state,
            found: found.collect::<Vec<_>>().join("  "),
            serves: self.serves.to_owned(),
            remedy: self.remedy(state),
        }
    }

    fn remedy(&self, state: State) -> String {
        let least = self.least.as_ref().map(|least| format!("{least} or later: ")).unwrap_or_default();
        match (&self.remedy, state) {
            (Remedy::Script, State::TooOld) => format!("{least}remove it, then scripts/tools {}", self.name),
            (Remedy::Script, _) => format!("scripts/tools {}", self.name),
            (Remedy::Command(command), _) => format!("{least}{command}"),
        }
    }
}

/// The folders off PATH where Debian and Homebrew install Postgres, the same as in scripts/tools.
fn postgres_folders() -> Vec<PathBuf> {
    let below = |folder: &str| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let brewed = ["/opt/homebrew/opt", "/usr/local/opt"].into_iter().flat_map(below);
    let brewed = brewed.filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("postgresql")));
    let mut folders: Vec<_> = below("/usr/lib/postgresql").chain(brewed).map(|path| path.join("bin")).collect();
    folders.sort();
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(version: Option<&str>, there: bool) -> (State, String) {
        let tool = optional("consul", Some([1, 8].into()), "", Remedy::Script);
        let version = version.and_then(Version::read);
        let finding = tool.judge(there.then_some(Path::new("/bin/consul")), version.as_ref());
        (finding.state, finding.remedy)
    }

    #[test]
    fn remedy_installs_a_missing_tool_and_replaces_an_old_one() {
        assert_eq!(judged(None, false), (State::Missing, "scripts/tools consul".to_owned()));
        let replace = "1.8 or later: remove it, then scripts/tools consul".to_owned();
        assert_eq!(judged(Some("v1.7.9"), true), (State::TooOld, replace));
    }

    #[test]
    fn state_is_ok_for_a_new_or_unknown_version() {
        for version in [Some("1.8.0"), Some("2.0"), None] {
            assert_eq!(judged(version, true).0, State::Ok, "{version:?}");
        }
    }

    #[test]
    fn rust_version_is_known() {
        assert!(rust_version().is_some());
    }
}
