//! Every service in one process, on one port. Services call each other in memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run([
        artwork::service(),
        catalog::service(),
        // This comment keeps one service per line: scripts/new-service adds lines here.
    ])
}
