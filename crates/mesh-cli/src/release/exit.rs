//! The exit codes beside 0 and 1.

use std::process::ExitCode;

use mesh_runtime::command_line::USAGE;

use crate::shown;

/// The deployment is blocked, or builds do not fit.
pub(super) const BLOCKED: u8 = 3;
/// Some builds must go together.
pub(super) const TOGETHER: u8 = 4;

/// Prints what is wrong with an argument.
pub(super) fn usage(why: &str) -> ExitCode {
    shown::error(why);
    ExitCode::from(USAGE)
}
