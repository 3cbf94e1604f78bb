//! Services in Python, as their users see them.

use serde_json::Value;

mod meshed; // both, beside sidecars
mod ratings; // plain HTTP, without a sidecar
mod recommendations; // gRPC, without a sidecar
mod up; // `mesh up` starts them

/// The file of a program.
const RATINGS: &str = "examples/ratings/main.py";
const RECOMMENDATIONS: &str = "examples/recommendations/main.py";
/// The packages that recommendations needs.
const PACKAGES: &str = "examples/recommendations/requirements.txt";

/// The names of recommended titles, the best first.
fn names(response: &Value) -> Vec<&str> {
    let recommendations = response["recommendations"].as_array().into_iter().flatten();
    recommendations.map(|recommendation| recommendation["title"]["name"].as_str().expect("a name")).collect()
}
