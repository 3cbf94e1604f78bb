//! Every service in one process, on one port. Services call each other in memory.

use std::process::ExitCode;

fn main() -> ExitCode {
    mesh::run([
        artwork::service(),
        billing::service(),
        catalog::service(),
        library::service(),
        composer::service(),
        mobile::service(),
        tv::service(),
        // A comment keeps this one service a line, for scripts/new-service.
    ])
}
