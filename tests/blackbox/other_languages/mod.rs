//! Services in Python, as their users see them.

use std::path::Path;

use harness::{Process, app};
use serde_json::Value;
use tempfile::TempDir;

mod meshed; // both, beside sidecars
mod ratings; // plain HTTP, without a sidecar
mod recommendations; // gRPC, without a sidecar
mod up; // `mesh up` starts them

/// The file of a program.
const RATINGS: &str = "examples/ratings/main.py";
const RECOMMENDATIONS: &str = "examples/recommendations/main.py";
/// The packages that recommendations needs.
const PACKAGES: &str = "examples/recommendations/requirements.txt";

/// Starts a program without its sidecar, in the folder of an earlier one.
fn alone_in(folder: TempDir, python: &Path, program: &str, environment: &[(&str, &str)]) -> Process {
    let service = program.split('/').nth(1).expect("examples/SERVICE/main.py");
    Process::spawn(app(python, program), folder, &format!("{service} app"), environment)
}

/// Starts a program without its sidecar, in an empty folder.
fn alone(python: &Path, program: &str, environment: &[(&str, &str)]) -> Process {
    alone_in(tempfile::tempdir().expect("a temporary folder"), python, program, environment)
}

/// The names of recommended titles, the best first.
fn names(response: &Value) -> Vec<&str> {
    let recommendations = response["recommendations"].as_array().into_iter().flatten();
    recommendations.map(|recommendation| recommendation["title"]["name"].as_str().expect("a name")).collect()
}
