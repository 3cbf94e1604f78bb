//! The programs: how old they may be, what they are good for, and what brings them.

use std::path::{Path, PathBuf};

use super::finding::{Finding, Need, State};
use crate::programs::{self, Version};

/// One that somebody may want.
struct Tool {
    name: &'static str,
    /// What is looked for, if that is not called like it.
    program: &'static str,
    /// What makes it tell its version.
    option: &'static str,
    need: Need,
    /// The oldest that will do.
    least: Option<Version>,
    serves: &'static str,
    remedy: Remedy,
}

/// What brings one.
enum Remedy {
    /// scripts/tools, by the tool's name. What is installed already it leaves alone, though it may be too old.
    Script,
    /// Something to type.
    Command(&'static str),
}

/// How all of them are.
pub(super) fn look() -> Vec<Finding> {
    tools().into_iter().map(Tool::look).collect()
}

fn tools() -> Vec<Tool> {
    let mut tools = vec![
        needed("rustc", rust_version(), "compiling", Remedy::Command(RUST)),
        needed("cargo", rust_version(), "compiling", Remedy::Command(RUST)),
        needed("cc", None, "linking, and SQLite", Remedy::Command(CC)),
        // The one that scripts/tools may bring through pip.
        optional("grpcurl", Some([1, 8].into()), "calls by hand, tests", Remedy::Script),
        // crates/consul-api-client says why.
        optional("consul", Some([1, 8].into()), "scripts/up, tests", Remedy::Script),
        // Before that, initdb does not know an option that tests give it.
        Tool {
            program: "initdb",
            ..optional("postgres", Some([14].into()), "a database that replicas share, tests", Remedy::Script)
        },
        // The first that reads a buf.yaml of version 2.
        optional("buf", Some([1, 32].into()), "buf lint, for those who change contracts", Remedy::Command(BUF)),
        optional("cargo-generate", Some([0, 26].into()), "making a project of the template", Remedy::Command(GENERATE)),
    ];
    if cfg!(target_os = "linux") {
        tools.push(optional("strace", None, "a test that counts flushes of the disk", Remedy::Script));
    }
    tools
}

const RUST: &str = "rustup update; without rustup, see https://rustup.rs";
const CC: &str = if cfg!(target_os = "macos") { "xcode-select --install" } else { "sudo apt-get install gcc" };
const BUF: &str = if cfg!(target_os = "macos") { "brew install buf" } else { "npm install --global @bufbuild/buf" };
// As the README has it: it asks for a newer Rust than it needs.
const GENERATE: &str = "cargo install cargo-generate --locked --ignore-rust-version";

/// What Cargo.toml asks for.
fn rust_version() -> Option<Version> {
    Version::read(env!("CARGO_PKG_RUST_VERSION"))
}

fn needed(name: &'static str, least: Option<Version>, serves: &'static str, remedy: Remedy) -> Tool {
    Tool { need: Need::Needed, ..optional(name, least, serves, remedy) }
}

fn optional(name: &'static str, least: Option<Version>, serves: &'static str, remedy: Remedy) -> Tool {
    // `consul --version` says nothing of the kind in some of its versions.
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

    /// One that does not tell its version is taken as it is.
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

/// Where Debian and Homebrew put what they keep off PATH, as in scripts/tools.
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
    fn what_is_missing_is_brought_and_what_is_old_has_to_go_first() {
        assert_eq!(judged(None, false), (State::Missing, "scripts/tools consul".to_owned()));
        let replace = "1.8 or later: remove it, then scripts/tools consul".to_owned();
        assert_eq!(judged(Some("v1.7.9"), true), (State::TooOld, replace));
    }

    #[test]
    fn what_is_new_enough_or_does_not_say_is_fine() {
        for version in [Some("1.8.0"), Some("2.0"), None] {
            assert_eq!(judged(version, true).0, State::Ok, "{version:?}");
        }
    }

    #[test]
    fn the_oldest_rust_is_known() {
        assert!(rust_version().is_some());
    }
}
