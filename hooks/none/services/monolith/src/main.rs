//! Every service in one process, on one port, calling each other in memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run([
        // A comment keeps this one service a line, for scripts/new-service.
    ])
}
