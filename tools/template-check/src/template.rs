//! The repository as a template: what git knows of it, as it stands on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use toml::Table;

use crate::project::Project;

/// What it calls itself, and no project does.
pub(crate) const NAME: &str = "mesh-starter";

pub(crate) struct Template {
    /// A copy of every tracked file, so that nothing else can find its way into a project.
    pub(crate) folder: PathBuf,
    pub(crate) files: BTreeSet<PathBuf>,
    /// What cargo-generate renders, by its name in a project.
    pub(crate) rendered: Vec<PathBuf>,
    /// What is the template's own, and not in a project.
    own: Vec<PathBuf>,
    /// Where projects are made.
    work: PathBuf,
    target: PathBuf,
    /// Where the repository's own tools are, so that the tests of a project need not skip for want of them.
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
        let rendered = strings(lists, "include").context("cargo-generate.toml has lost its `include`")?;
        let mut own = strings(lists, "ignore").context("cargo-generate.toml has lost its `ignore`")?;
        own.extend(["cargo-generate.toml", "hooks"].map(PathBuf::from));
        Ok(Self { folder, files, rendered, own, work, target, tools: root.join(".tools/bin") })
    }

    /// Whether a file is the template's own: then no project has it.
    pub(crate) fn owns(&self, file: &Path) -> bool {
        self.own.iter().any(|own| file.starts_with(own))
    }

    /// Makes a project with these answers, `-d NAME=VALUE` as people give them, in a folder of its own below `place`.
    pub(crate) fn generate(&self, place: &str, arguments: &[&str]) -> Result<Project> {
        let folder = self.work.join(place);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        self.generate_into("shop", &folder, arguments)?;
        Ok(self.project(folder.join("shop")))
    }

    /// Makes a project in a process of its own: cargo-generate talks a lot, and insists on a $USER.
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

    /// A folder of its own for whatever else has to be kept.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.work.join(name)
    }

    /// A path that was renamed, and not here, would be rendered or left out no more, and nobody would be told.
    pub(crate) fn names_what_exists(&self) -> Result<()> {
        let conditional = read_toml(&self.folder.join("cargo-generate.toml"))?;
        let conditional = conditional["conditional"].as_table().context("no conditions")?.values();
        let ignored = conditional.filter_map(|condition| strings(condition, "ignore")).flatten();
        let twice = self.files.iter().filter_map(|file| file.strip_prefix("hooks/empty").ok()).map(PathBuf::from);
        for path in ignored.chain(twice) {
            ensure!(self.files.iter().any(|file| file.starts_with(&path)), "there is no {}", path.display());
        }
        for path in &self.rendered {
            let twin = PathBuf::from(format!("{}.liquid", path.display()));
            let text = [&twin, path].into_iter().find_map(|file| fs::read_to_string(self.folder.join(file)).ok());
            let text = text.with_context(|| format!("there is no {}", path.display()))?;
            // cargo keeps the tags when it changes a file, but somebody may have deleted it and had it made anew.
            let lost =
                "has lost its tags: `git restore --source COMMIT` brings it back, and cargo changes what it has to";
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
        // Deleted, and git has not been told yet.
        let Ok(metadata) = from.join(&file).symlink_metadata() else { continue };
        if !metadata.is_file() {
            bail!("{} is no plain file, and cargo-generate leaves out what is none", file.display());
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
