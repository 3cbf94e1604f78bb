//! Generates typed clients, servers, events and a descriptor set from contracts, for build scripts.
//!
//! Guarantees:
//! - The build needs no protoc: protox compiles the contracts.
//! - The output stays in Cargo's `OUT_DIR` (INV-2).
//! - The descriptor set keeps comments and custom options.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

mod events;

/// The package `google.rpc`: its types come from tonic-types, which converts them from and to a `tonic::Status`.
const RPC: [&str; 2] = [".google.rpc", "::tonic_types::pb"];

/// Generates `contracts.rs` (one module a package) and `contracts.bin` (the encoded
/// `google.protobuf.FileDescriptorSet`, with comments, options and imports) into Cargo's `OUT_DIR`.
///
/// - `proto`: the folder to which imports are relative.
/// - `folders`: the folders under it whose `.proto` files are compiled. Cargo runs the build script again when one
///   changes.
/// - `external`: first segments of packages that another crate has generated, with the path of that crate:
///   `("google", "::mesh_proto")`. They may be imported, and no code is generated for them.
///
/// # Errors
///
/// A contract that does not compile, with file and line; an event whose key is no string field, with file, message and
/// key; or a folder that cannot be read. Return it from `main`.
pub fn generate(proto: &str, folders: &[PathBuf], external: &[(&str, &str)]) -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files = Vec::new();
    for folder in folders {
        println!("cargo::rerun-if-changed={}", folder.display());
        collect_contracts(folder, &mut files)?;
    }
    files.sort();

    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    // The raw bytes keep custom options. The typed set below drops them, since prost drops unknown fields.
    fs::write(out.join("contracts.bin"), compiler.encode_file_descriptor_set())?;

    let events = events::of(&compiler.descriptor_pool())?;

    let mut set = compiler.file_descriptor_set();
    let mut elsewhere = BTreeMap::from([RPC.map(str::to_owned).into()]);
    for file in &mut set.file {
        let package = file.package().to_owned();
        let of = |name: &str| package.split('.').next() == Some(name);
        let theirs = external.iter().find(|(name, _)| of(name));
        // prost maps google.protobuf itself.
        if let Some((_, path)) = theirs.filter(|_| package != "google.protobuf") {
            file.service.clear();
            elsewhere.entry(format!(".{package}")).or_insert(format!("{path}::{}", package.replace('.', "::")));
        }
    }
    let mut config = tonic_prost_build::Config::new();
    // The type URL of a message in a google.protobuf.Any has the domain that every client expects.
    config.enable_type_names().type_name_domain(["."], "type.googleapis.com");
    // With ordered maps a message always has the same bytes, by whose hash a repeated request is recognised.
    config.btree_map(["."]);
    let generator = tonic_prost_build::configure().include_file("contracts.rs");
    let generator = elsewhere.iter().fold(generator, |generator, (package, path)| generator.extern_path(package, path));
    generator.compile_fds_with_config(set, config)?;
    for (package, code) in events {
        // Packages of another crate have no file here.
        let generated = out.join(format!("{package}.rs"));
        if !elsewhere.contains_key(&format!(".{package}")) {
            File::options().append(true).open(generated)?.write_all(code.as_bytes())?;
        }
    }
    Ok(())
}

fn collect_contracts(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect_contracts(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
