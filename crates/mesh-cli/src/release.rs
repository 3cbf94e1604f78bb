//! Plans deployments: asks what runs for its manifests, and compares builds.
//!
//! Modules, in reading order: [`ask`] finds what runs, [`files`] reads the builds to deploy, [`plan`] prints plans and
//! checks, [`show`] what runs, and [`diff`] the difference of two builds; [`exit`] has the exit codes.
//!
//! See: docs/operate/releases.md

mod ask;
mod diff;
mod exit;
mod files;
mod plan;
mod show;

use std::process::ExitCode;

use clap::Subcommand;

use crate::target::Target;
use ask::AskOptions;
use diff::Format;
use files::Given;

#[derive(Subcommand)]
pub(crate) enum Release {
    /// Plan a deployment: which builds go alone, in which order, which only together, and the way back
    ///
    /// Exits with 0 if each build can go alone in the order of the steps, with 1 if no instance answered or with
    /// --strict something is UNKNOWN, with 2 if a file cannot be used, with 3 if the deployment is blocked, and with 4
    /// if builds must go together.
    #[command(verbatim_doc_comment)]
    Plan {
        #[command(flatten)]
        ask: AskOptions,
        /// A build to deploy: a manifest, or a program that writes its own; SERVICE= chooses one of a program of
        /// several
        #[arg(long, required = true, value_name = "[SERVICE=]FILE")]
        deploy: Vec<Given>,
    },
    /// Check that a service fits all that runs: between two steps, or with --deploy before one
    ///
    /// Exits with 0 if it does, with 3 if not, and with 1 if no instance runs or answers, or with --strict something is
    /// UNKNOWN. With --deploy as `plan` does.
    #[command(verbatim_doc_comment)]
    Check {
        /// The service
        service: String,
        #[command(flatten)]
        ask: AskOptions,
        /// The build to check, in place of those that run
        #[arg(long, value_name = "[SERVICE=]FILE")]
        deploy: Option<Given>,
    },
    /// List the builds that run, with what they call
    Show {
        #[command(flatten)]
        ask: AskOptions,
    },
    /// Compare two builds of a service: what its clients find, what is stored, and its migrations
    ///
    /// Exits with 3 if clients of the old build break, if the new one cannot read what the old one has stored, or if a
    /// migration breaks the old one and does not say so.
    #[command(verbatim_doc_comment)]
    Diff {
        /// The build before: a manifest, or a program
        #[arg(value_name = "[SERVICE=]OLD")]
        old: Given,
        /// The build now
        #[arg(value_name = "[SERVICE=]NEW")]
        new: Given,
        /// How differences are printed: as text, as JSON, or as annotations of GitHub
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

impl Release {
    /// The options that select the processes to ask.
    fn ask(&mut self) -> Option<&mut AskOptions> {
        match self {
            Self::Plan { ask, .. } | Self::Check { ask, .. } | Self::Show { ask } => Some(ask),
            Self::Diff { .. } => None,
        }
    }

    /// Whether processes are given by `--at`.
    pub(crate) fn has_at(&mut self) -> bool {
        self.ask().is_some_and(|ask| !ask.at.is_empty())
    }
}

/// Runs a command. `tls`: processes are asked with a certificate. `consul`: `--consul` was given.
pub(crate) async fn run(
    mut command: Release,
    tls: bool,
    consul: bool,
    target: impl AsyncFnOnce() -> anyhow::Result<Target>,
) -> anyhow::Result<ExitCode> {
    if let Some(ask) = command.ask() {
        ask.consul = consul;
    }
    match command {
        Release::Plan { ask, deploy } => plan::plan(&ask, &deploy, tls, target).await,
        Release::Check { service, ask, deploy } => plan::check(&service, &ask, deploy.as_ref(), tls, target).await,
        Release::Show { ask } => show::show(&ask, tls, target).await,
        Release::Diff { old, new, format } => diff::diff(&old, &new, format).await,
    }
}
