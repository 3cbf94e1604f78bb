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

    /// The same, with more programs to be found.
    pub(crate) fn with_tools(mut self, tools: &Path) -> Self {
        let mut path = tools.as_os_str().to_owned();
        path.push(":");
        path.push(self.path);
        self.path = path;
        self
    }

    /// The same, with other programs to be found.
    pub(crate) fn with_path(&self, folders: &[&str]) -> Self {
        Self { folder: self.folder.clone(), target: self.target.clone(), path: folders.join(":").into() }
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
        for (key, value) in [("user.name", "template-check"), ("user.email", "template-check@localhost")] {
            self.run("git", &["config", key, value])?;
        }
        self.run("git", &["config", "commit.gpgsign", "false"])?;
        self.run("git", &["add", "--all"])?;
        self.run("git", &["commit", "--quiet", "--allow-empty", "--message=As generated"])?;
        Ok(())
    }

    /// Takes over the files of another project, and leaves those alone that are the same.
    pub(crate) fn become_like(&self, other: &Self) -> Result<()> {
        let theirs = other.files()?;
        for file in self.files()?.difference(&theirs).filter(|file| !file.starts_with(".git")) {
            let path = self.folder.join(file);
            // A folder, if there is nothing in it: see `collect`.
            if path.is_dir() { fs::remove_dir(path)? } else { fs::remove_file(path)? }
        }
        for file in &theirs {
            let (from, to) = (other.folder.join(file), self.folder.join(file));
            if fs::read(&to).ok() != Some(fs::read(&from)?) {
                fs::create_dir_all(to.parent().unwrap_or(&self.folder))?;
                fs::copy(from, to)?;
            }
        }
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
