//! Generates typed clients, servers and the descriptor set from every contract under `proto/`, without protoc.

use std::path::{Path, PathBuf};
use std::{env, error::Error, fs, io};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut files = Vec::new();
    contracts_under(Path::new("proto"), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;

    // Two outputs on purpose: the typed set below has lost custom options (prost drops unknown fields), the raw bytes
    // have not, and reflection must serve the contract as it was written.
    fs::write(out.join("contracts.bin"), compiler.encode_file_descriptor_set())?;

    // So that a message can be put into a google.protobuf.Any under the URL that every client expects.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    // So that a message with a map in it has the same bytes each time: that is how a repeated request is recognised.
    config.btree_map(["."]);
    tonic_prost_build::configure()
        // tonic-types has these messages already, and the conversions from and to a `Status`.
        .extern_path(".google.rpc", "::tonic_types::pb")
        .include_file("contracts.rs")
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;
    Ok(())
}

fn contracts_under(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            contracts_under(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
