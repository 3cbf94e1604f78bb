//! Artwork in a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run(artwork::service())
}
