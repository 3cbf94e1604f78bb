//! The flags of a process.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use mesh_runtime::command_line::ConfigFlags;
use mesh_runtime::settings::Error;

use crate::process::Process;

/// The task of a process that replaces serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Renew the epoch of the databases, after a backup was restored.
    RenewEpoch,
    /// Print the configuration in force.
    PrintConfig,
    /// Check the configuration, and do nothing else.
    CheckConfig,
}

/// The command line.
#[derive(Parser)]
#[command(about = "Serves gRPC. Every key of mesh.toml can be set by a flag or the environment, too.", version)]
pub(super) struct Flags {
    #[command(flatten)]
    pub(super) config: ConfigFlags,
    /// The address to serve on; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Option<String>,
    /// The folder of embedded databases
    #[arg(long, value_name = "FOLDER")]
    pub(super) data_dir: Option<String>,
    /// Give the databases a new epoch after a restored backup, so that streams restart, and exit
    /// (docs/operate/backup.md)
    #[arg(long, conflicts_with_all = ["print_config", "check_config"])]
    renew_epoch: bool,
    /// Write the manifest of the service to standard output: what it serves, calls, publishes, follows and stores.
    /// Opens nothing and reads no configuration; a process of several services takes the name of one
    /// (docs/operate/releases.md)
    #[arg(long, value_name = "SERVICE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(conflicts_with_all = ["print_config", "check_config", "renew_epoch"])]
    pub(super) manifest: Option<String>,
}

impl Flags {
    pub(super) fn read(process: &Process, arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let matches = Self::command().name(process.name).bin_name(process.name).try_get_matches_from(arguments);
        matches.and_then(|matches| Self::from_arg_matches(&matches)).map_err(Error::Usage)
    }

    pub(super) fn instead(&self) -> Option<Instead> {
        let asked = [
            (self.config.print_config, Instead::PrintConfig),
            (self.config.check_config, Instead::CheckConfig),
            (self.renew_epoch, Instead::RenewEpoch),
        ];
        asked.into_iter().find_map(|(asked, instead)| asked.then_some(instead))
    }
}
