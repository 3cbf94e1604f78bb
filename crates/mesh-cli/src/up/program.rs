//! The programs of a project: one for each folder of `services`, and a sidecar for each service in another language.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::sidecars::{self, Sidecar};

/// The process that answers for all services. It is none: it is not in Consul.
pub(super) const GATEWAY: &str = "gateway";

/// What starts the process of a service.
pub(super) struct Program {
    pub(super) service: String,
    file: PathBuf,
    /// The configuration of the sidecar, if it is one.
    sidecar: Option<PathBuf>,
}

/// The programs of the project, in the folder of this program.
pub(super) struct Found {
    /// By name. The gateway is among them, if there is one.
    pub(super) programs: Vec<Program>,
    /// A line for each service that this machine cannot run.
    pub(super) without: Vec<String>,
}

impl Found {
    pub(super) fn in_this_folder() -> anyhow::Result<Self> {
        let mut found = Self { programs: services(Path::new("services"))?, without: Vec::new() };
        for sidecar in sidecars::find(Path::new("examples"))? {
            match sidecar.lacks() {
                Some(why) => found.without.push(format!("`{}` is not started: {why}", sidecar.service)),
                None => {
                    let Sidecar { service, config, .. } = sidecar;
                    found.programs.push(Program { service, file: beside("sidecar")?, sidecar: Some(config) });
                }
            }
        }
        Ok(found)
    }
}

/// A program for each folder but the monolith.
fn services(services: &Path) -> anyhow::Result<Vec<Program>> {
    let folders = std::fs::read_dir(services).context("the current folder has no folder `services`: run scripts/up")?;
    let mut programs = Vec::new();
    for folder in folders {
        let folder = folder.context("cannot read the folder `services`")?;
        let service = folder.file_name().to_string_lossy().into_owned();
        if folder.path().is_dir() && service != "monolith" {
            programs.push(Program { file: beside(&service)?, service, sidecar: None });
        }
    }
    ensure!(
        programs.iter().any(|program| program.service != GATEWAY),
        "the folder `services` holds no services: add one with scripts/new-service"
    );
    programs.sort_by(|one, other| one.service.cmp(&other.service));
    Ok(programs)
}

/// The program of this name, in the folder of this program.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find the path of this program")?;
    let program = this.with_file_name(name).with_extension(std::env::consts::EXE_EXTENSION);
    ensure!(program.is_file(), "`{name}` is not built: run scripts/up, or `cargo build --bins`");
    Ok(program)
}

impl Program {
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        if let Some(config) = &self.sidecar {
            command.arg("--config").arg(config).env("PATH", sidecars::path());
            // It would be the address of all sidecars. Each has one of its own, in its file.
            command.env_remove("MESH__LISTEN");
        }
        command
    }
}
