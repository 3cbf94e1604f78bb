//! The flags that each process has, the sources of its configuration, and what it prints and exits with if they cannot
//! be used.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::settings::{Error, Settings, Source};

/// The file that is read if it exists and no other is named.
const FILE: &str = "mesh.toml";

/// The exit code for a configuration or a command line that cannot be used. clap has the same.
pub const USAGE: u8 = 2;

/// Prints why a process has no configuration, and returns its exit code: 2, or 0 after `--help` and `--version`.
pub fn refuse(error: Error) -> ExitCode {
    match error {
        Error::Usage(usage) => {
            let _ = usage.print();
            if usage.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        }
        Error::Invalid(problems) => {
            problems.iter().for_each(|problem| print_error(&problem.to_string()));
            ExitCode::from(USAGE)
        }
    }
}

/// Prints an error as one line on standard error.
pub fn print_error(line: &str) {
    let prefix = if std::io::stderr().is_terminal() { "\x1b[31merror:\x1b[0m" } else { "error:" };
    eprintln!("{prefix} {}", line.replace('\n', " "));
}

/// The flags of the configuration, to flatten into the flags of a process.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigFlags {
    /// The configuration file [default: mesh.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Any key of mesh.toml, such as `drain_limit=5s`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Print the configuration in force with the source of each value, secrets redacted, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Check the configuration and exit: 0 if it is valid, 2 if it is not
    #[arg(long, conflicts_with = "print_config")]
    pub check_config: bool,
}

impl ConfigFlags {
    /// Reads the file, then `environment`; the later source wins. Apply [`flags`](Self::flags) last.
    pub fn read(&self, environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>) -> Settings {
        let mut settings = Settings::default();
        match &self.config {
            Some(file) => settings.read_file(file),
            None if Path::new(FILE).exists() => settings.read_file(Path::new(FILE)),
            None => {}
        }
        settings.read_environment(environment);
        settings
    }

    /// Applies `--set`. A value without `=` is noted as a problem.
    pub fn flags(&self, settings: &mut Settings) {
        for assignment in &self.settings {
            match assignment.split_once('=') {
                Some((key, value)) => settings.set(key.trim(), value.trim(), Source::Flag("--set".to_owned())),
                None => {
                    settings.problem("", Source::Flag("--set".to_owned()), format!("`{assignment}` must be KEY=VALUE"))
                }
            }
        }
    }
}
