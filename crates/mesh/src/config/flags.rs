//! The flags of a process.

use clap::Parser;
use mesh_runtime::command_line::ConfigFlags;

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
}

impl Flags {
    pub(super) fn instead(&self) -> Option<Instead> {
        let asked = [
            (self.config.print_config, Instead::PrintConfig),
            (self.config.check_config, Instead::CheckConfig),
            (self.renew_epoch, Instead::RenewEpoch),
        ];
        asked.into_iter().find_map(|(asked, instead)| asked.then_some(instead))
    }
}
