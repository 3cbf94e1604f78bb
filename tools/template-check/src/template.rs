//! The repository as a template: what git knows of it, as it stands on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail, ensure};
use cargo_generate::{GenerateArgs, TemplatePath, Vcs};
use toml::Table;

use crate::project::Project;

pub(crate) struct Template {
    /// The name of its root package.
    pub(crate) name: String,
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
        let rendered = paths(&config, "include")?;
        let mut own = paths(&config, "ignore")?;
        own.extend(["cargo-generate.toml", "hooks"].map(PathBuf::from));
        let name = read_toml(&folder.join("Cargo.toml"))?["package"]["name"].as_str().unwrap_or_default().to_owned();
        Ok(Self { name, folder, files, rendered, own, work, target, tools: root.join(".tools/bin") })
    }

    /// Whether a file is the template's own: then no project has it.
    pub(crate) fn owns(&self, file: &Path) -> bool {
        self.own.iter().any(|own| file.starts_with(own))
    }

    pub(crate) fn generate(&self, name: &str) -> Result<Project> {
        let projects = self.work.join("projects");
        self.generate_into(name, &projects)?;
        Ok(Project::new(projects.join(name), self.target.clone(), &self.tools))
    }

    /// Makes a project in a process of its own: cargo-generate talks a lot, and insists on a $USER.
    pub(crate) fn generate_into(&self, name: &str, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        let mut generate = Command::new(env::current_exe()?);
        generate.arg("generate").arg(&self.folder).arg(name).arg(folder);
        if env::var_os("USER").is_none() {
            generate.env("USER", "template-check");
        }
        let output = generate.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }
}

/// What the process does that [`Template::generate_into`] starts.
pub(crate) fn generate(from: &str, name: &str, into: &str) -> Result<()> {
    let template_path = TemplatePath { path: Some(from.to_owned()), ..Default::default() };
    let arguments = GenerateArgs {
        template_path,
        name: Some(name.to_owned()),
        destination: Some(into.into()),
        silent: true,
        vcs: Some(Vcs::None),
        no_workspace: true,
        ..Default::default()
    };
    cargo_generate::generate(arguments).map(drop)
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

fn paths(config: &Table, list: &str) -> Result<Vec<PathBuf>> {
    let list = config["template"].get(list).and_then(toml::Value::as_array);
    let list = list.context("cargo-generate.toml has lost its `include` or `ignore`")?;
    Ok(list.iter().filter_map(toml::Value::as_str).map(PathBuf::from).collect())
}
