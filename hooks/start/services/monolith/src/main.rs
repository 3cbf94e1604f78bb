//! Every service in one process, on one port. Services call each other in memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run([
        artwork::service(),
        catalog::service(),
        // A comment keeps this one service a line, for scripts/new-service.
    ])
}
