//! A generated project.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};

/// The number of output lines in the error of a failed program: standard output last, where tests print their failures.
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

    /// The project with more programs on PATH.
    pub(crate) fn with_tools(mut self, tools: &Path) -> Self {
        let mut path = tools.as_os_str().to_owned();
        path.push(":");
        path.push(self.path);
        self.path = path;
        self
    }

    /// The project with another PATH.
    pub(crate) fn with_path(&self, folders: &[&str]) -> Self {
        Self { folder: self.folder.clone(), target: self.target.clone(), path: folders.join(":").into() }
    }

    /// Runs a program in the folder of the project and returns its standard output.
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
        let lines: Vec<_> = stderr.lines().chain(stdout.lines()).collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        ensure!(output.status.success(), "`{command_line}` failed in {}:\n{last}", self.folder.display());
        Ok(stdout)
    }

    /// Commits all files, so that `is_clean` sees changes.
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

    /// Makes the files those of another project, and does not touch equal ones.
    pub(crate) fn become_like(&self, other: &Self) -> Result<()> {
        let theirs = other.files()?;
        for file in self.files()?.difference(&theirs).filter(|file| !file.starts_with(".git")) {
            let path = self.folder.join(file);
            // `collect` also lists empty folders.
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

    /// Deletes what was built of the workspace, but for dependencies. Test programs are large. All workspaces have the
    /// same packages, whose files have the same names in the target directory: another one would build them anew, or
    /// take them for its own if its sources are older.
    pub(crate) fn delete_products(&self) -> Result<()> {
        self.run("cargo", &["clean", "--workspace"])?;
        Ok(())
    }

    pub(crate) fn is_clean(&self) -> Result<()> {
        let status = self.run("git", &["status", "--porcelain"])?;
        ensure!(status.is_empty(), "git status in {}:\n{status}", self.folder.display());
        Ok(())
    }

    /// Every file with its bytes, without git's.
    pub(crate) fn contents(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let files = self.files()?.into_iter().filter(|file| !file.starts_with(".git"));
        files.map(|file| Ok((file.clone(), fs::read(self.folder.join(&file))?))).collect()
    }

    pub(crate) fn files(&self) -> Result<BTreeSet<PathBuf>> {
        let mut files = BTreeSet::new();
        collect(&self.folder, &self.folder, &mut files)?;
        Ok(files)
    }
}

/// Lists every file below `folder`, and every empty folder.
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
