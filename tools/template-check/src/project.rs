//! A project that was made of the template.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};

/// How much of what a program said is repeated when it fails: standard output last, where tests say why.
const LAST_LINES: usize = 80;

pub(crate) struct Project {
    pub(crate) folder: PathBuf,
    target: PathBuf,
    path: OsString,
}

impl Project {
    pub(crate) fn new(folder: PathBuf, target: PathBuf, tools: &Path) -> Self {
        let mut path = tools.as_os_str().to_owned();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_default());
        Self { folder, target, path }
    }

    /// Runs a program in the folder of the project, and gives what it printed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.run_in(".", program, arguments)
    }

    pub(crate) fn run_in(&self, folder: &str, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.join(folder));
        command.env("CARGO_TARGET_DIR", &self.target).env("PATH", &self.path);
        let command_line = format!("{program} {}", arguments.join(" "));
        let output = command.output().with_context(|| command_line.clone())?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let said: Vec<_> = stderr.lines().chain(stdout.lines()).collect();
        let last = said[said.len().saturating_sub(LAST_LINES)..].join("\n");
        ensure!(output.status.success(), "`{command_line}` failed in {}:\n{last}", self.folder.display());
        Ok(stdout)
    }

    /// Puts all of it under git, so that `is_clean` can tell what changes.
    pub(crate) fn commit(&self) -> Result<()> {
        self.run("git", &["init", "--quiet"])?;
        self.run("git", &["add", "--all"])?;
        let author = ["-c", "user.name=template-check", "-c", "user.email=template-check@localhost"];
        self.run("git", &[&author[..], &["commit", "--quiet", "--no-gpg-sign", "--message=As generated"]].concat())?;
        Ok(())
    }

    pub(crate) fn is_clean(&self) -> Result<()> {
        let status = self.run("git", &["status", "--porcelain"])?;
        ensure!(status.is_empty(), "git status in {}:\n{status}", self.folder.display());
        Ok(())
    }

    pub(crate) fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        collect(&self.folder, &self.folder, &mut files)?;
        Ok(files)
    }
}

/// Every file below `folder`, and every empty folder: both are there to be seen.
pub(crate) fn collect(root: &Path, folder: &Path, files: &mut BTreeSet<PathBuf>) -> Result<()> {
    let mut empty = true;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        empty = false;
        if path.is_dir() {
            collect(root, &path, files)?;
        } else {
            files.insert(path.strip_prefix(root)?.to_owned());
        }
    }
    if empty && folder != root {
        files.insert(folder.strip_prefix(root)?.to_owned());
    }
    Ok(())
}
