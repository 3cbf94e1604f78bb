//! Generates typed clients, servers and the descriptor set from contracts, without protoc. For build scripts.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Packages whose types come from tonic-types, which converts them from and to a `tonic::Status`.
const RPC: (&str, &str) = (".google.rpc", "::tonic_types::pb");

/// Generates `contracts.rs` (one module a package) and `contracts.bin` (the encoded `google.protobuf.FileDescriptorSet`,
/// with comments, options and imports) into Cargo's `OUT_DIR`.
///
/// - `proto`: the folder that imports are relative to.
/// - `folders`: the folders in it whose `.proto` files are compiled. Cargo runs the build script again when one changes.
/// - `elsewhere`: packages that are imported, and the Rust path of their types: `(".google.longrunning", "::a::b")`. No
///   code is generated for them.
///
/// # Errors
///
/// A contract that does not compile, with file and line; a folder that cannot be read.
pub fn generate(proto: &str, folders: &[PathBuf], elsewhere: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    for folder in folders {
        println!("cargo::rerun-if-changed={}", folder.display());
        contracts_under(folder, &mut files)?;
    }
    files.sort();

    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    // The raw bytes keep custom options, which the typed set below has lost: prost drops unknown fields.
    fs::write(out.join("contracts.bin"), compiler.encode_file_descriptor_set())?;

    let mut set = compiler.file_descriptor_set();
    for file in &mut set.file {
        let package = format!(".{}", file.package());
        if elsewhere.iter().any(|(theirs, _)| *theirs == package) {
            file.service.clear();
        }
    }
    let mut config = tonic_prost_build::Config::new();
    // Messages in a google.protobuf.Any have the type URL that every client expects.
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    // A message with a map has the same bytes each time: a repeated request is recognised by its bytes.
    config.btree_map(["."]);
    let generator = tonic_prost_build::configure().include_file("contracts.rs");
    let generator = elsewhere
        .iter()
        .chain([&RPC])
        .fold(generator, |generator, (package, path)| generator.extern_path(package, path));
    generator.compile_fds_with_config(set, config)?;
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
