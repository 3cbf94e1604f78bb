//! Generates the contracts of mesh: `proto/buf`, `proto/google`, `proto/grpc` and `proto/mesh`, and no other folder
//! under `proto/`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let proto = "../../proto";
    let folders = ["buf", "google", "grpc", "mesh"].map(|package| [proto, package].iter().collect());
    mesh_build::generate(proto, &folders, &[])
}
