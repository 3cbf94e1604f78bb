//! The public edge in a process of its own: it answers for the public methods of all services, and finds them through
//! discovery. It has no contract, no database and no code for a method.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run(mesh::Gateway::new(contracts::FILE_DESCRIPTOR_SET))
}
