//! The repository as a template: its tracked files, as they are on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use toml::Table;

use crate::options;
use crate::project::Project;

/// The template's own name, which no project contains.
pub(crate) const NAME: &str = "mesh-starter";

pub(crate) struct Template {
    /// A copy of every tracked file, so that no other file gets into a project.
    pub(crate) folder: PathBuf,
    pub(crate) files: BTreeSet<PathBuf>,
    /// The rendered files, by their names in a project.
    pub(crate) rendered: Vec<PathBuf>,
    /// The template's own files, which no project has.
    own: Vec<PathBuf>,
    /// The folder of the generated projects.
    work: PathBuf,
    target: PathBuf,
    /// The repository's tools, so that the tests of a project do not skip.
    tools: PathBuf,
}

impl Template {
    pub(crate) fn of_this_repository() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let target = std::path::absolute(target)?;
        let work = target.join("template-check");
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }

        let folder = work.join("template");
        let files = copy_tracked(&root, &folder)?;
        let config = read_toml(&folder.join("cargo-generate.toml"))?;
        let lists = &config["template"];
        let rendered = strings(lists, "include").context("cargo-generate.toml has no `include`")?;
        let mut own = strings(lists, "ignore").context("cargo-generate.toml has no `ignore`")?;
        own.extend([".genignore", "cargo-generate.toml", "hooks"].map(PathBuf::from));
        Ok(Self { folder, files, rendered, own, work, target, tools: root.join(".tools/bin") })
    }

    /// Whether a file is the template's own.
    pub(crate) fn owns(&self, file: &Path) -> bool {
        self.own.iter().any(|own| file.starts_with(own))
    }

    /// Generates a project in a folder below `place`. The arguments are answers: `-d NAME=VALUE`.
    pub(crate) fn generate(&self, place: &str, arguments: &[&str]) -> Result<Project> {
        let folder = self.work.join(place);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        self.generate_into("shop", &folder, arguments)?;
        Ok(self.project(folder.join("shop")))
    }

    /// Runs cargo-generate in a process of its own, because it prints much, and needs $USER.
    pub(crate) fn generate_into(&self, name: &str, folder: &Path, arguments: &[&str]) -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut generate = Command::new(env::current_exe()?);
        generate.args(["generate", "--silent", "--vcs=none", "--no-workspace", "--path"]).arg(&self.folder);
        generate.arg(format!("--name={name}")).arg("--destination").arg(folder).args(arguments);
        if env::var_os("USER").is_none() {
            generate.env("USER", "template-check");
        }
        let output = generate.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    pub(crate) fn project(&self, folder: PathBuf) -> Project {
        Project::new(folder, self.target.clone(), &self.tools)
    }

    /// A folder for other files.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// Checks the paths of cargo-generate.toml and the hooks: a path that was renamed elsewhere would silently no
    /// longer be rendered or ignored.
    pub(crate) fn names_what_exists(&self) -> Result<()> {
        let conditional = read_toml(&self.folder.join("cargo-generate.toml"))?;
        let conditional = conditional["conditional"].as_table().context("no conditions")?.values();
        let ignored = conditional.filter_map(|condition| strings(condition, "ignore")).flatten();
        let of = |example| {
            self.files.iter().filter_map(move |file| file.strip_prefix("hooks").ok()?.strip_prefix(example).ok())
        };
        let other = options::EXAMPLES.iter().flat_map(of).map(PathBuf::from);
        for path in ignored.chain(other) {
            ensure!(self.files.iter().any(|file| file.starts_with(&path)), "there is no {}", path.display());
        }
        for path in &self.rendered {
            let twin = PathBuf::from(format!("{}.liquid", path.display()));
            let text = [&twin, path].into_iter().find_map(|file| fs::read_to_string(self.folder.join(file)).ok());
            let text = text.with_context(|| format!("there is no {}", path.display()))?;
            // cargo keeps the tags when it changes a file; a deleted and regenerated file has lost them.
            let lost = "has no tags: restore it with `git restore --source COMMIT`, then run cargo";
            ensure!(text.contains("{%") || text.contains("{{"), "{} {lost}", path.display());
        }
        Ok(())
    }
}

fn copy_tracked(from: &Path, to: &Path) -> Result<BTreeSet<PathBuf>> {
    let listed = Command::new("git").arg("-C").arg(from).args(["ls-files", "-z"]).output().context("git ls-files")?;
    ensure!(listed.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    let mut copied = BTreeSet::new();
    for file in String::from_utf8(listed.stdout)?.split_terminator('\0').map(PathBuf::from) {
        // Deleted, but still in git's index.
        let Ok(metadata) = from.join(&file).symlink_metadata() else { continue };
        if !metadata.is_file() {
            bail!("{} is not a regular file, and cargo-generate copies only those", file.display());
        }
        let copy = to.join(&file);
        fs::create_dir_all(copy.parent().unwrap_or(to))?;
        fs::copy(from.join(&file), copy)?;
        copied.insert(file);
    }
    Ok(copied)
}

pub(crate) fn read_toml(file: &Path) -> Result<Table> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    text.parse().with_context(|| file.display().to_string())
}

fn strings(table: &toml::Value, list: &str) -> Option<Vec<PathBuf>> {
    let list = table.get(list)?.as_array()?;
    Some(list.iter().filter_map(toml::Value::as_str).map(PathBuf::from).collect())
}
