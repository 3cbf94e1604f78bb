//! Runs the catalog in its own process.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run(catalog::service())
}
