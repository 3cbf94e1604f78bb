//! Runs `tv` in its own process.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run(tv::service())
}
