//! Contracts and builds for tests.

use std::path::Path;

use mesh_proto::mesh::release::v1::{Call, Followed, Manifest};
use prost::Message as _;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::manifest::{Build, complete};

/// The files of proto/, and one more.
struct One(String, String);

impl FileResolver for One {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == self.0 {
            return File::from_source(name, &self.1);
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto").join(name);
        match std::fs::read_to_string(path) {
            Ok(source) => File::from_source(name, &source),
            Err(_) => Err(protox::Error::file_not_found(name)),
        }
    }
}

/// The descriptor set of `service.v1` with this text, and what it imports.
pub(crate) fn set(service: &str, text: &str) -> Vec<u8> {
    let name = format!("{service}/v1/{service}.proto");
    let source = format!(
        "syntax = \"proto3\"; package {service}.v1; import \"buf/validate/validate.proto\"; \
         import \"google/api/field_behavior.proto\"; import \"mesh/options/v1/options.proto\"; {text}"
    );
    let mut resolver = ChainFileResolver::new();
    resolver.add(One(name.clone(), source));
    resolver.add(GoogleFileResolver::new());
    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_file(&name).unwrap_or_else(|error| panic!("{error:?}"));
    compiler.encode_file_descriptor_set()
}

/// A contract of `catalog` with these methods and messages.
pub(crate) fn catalog(text: &str) -> Vec<u8> {
    set("catalog", text)
}

/// A build to declare.
#[derive(Clone, Default)]
pub(crate) struct Declared {
    manifest: Manifest,
    sets: Vec<Vec<u8>>,
}

impl Declared {
    pub(crate) fn new(service: &str, version: &str) -> Self {
        let (service, version) = (service.to_owned(), version.to_owned());
        Self { manifest: Manifest { service, version, ..Manifest::default() }, sets: Vec::new() }
    }

    pub(crate) fn serves(mut self, contract: &str, set: &[u8]) -> Self {
        self.manifest.serves.push(contract.to_owned());
        self.sets.push(set.to_owned());
        self
    }

    pub(crate) fn calls(mut self, peer: &str, method: &str, set: &[u8]) -> Self {
        let (peer, method) = (peer.to_owned(), method.to_owned());
        self.manifest.calls.push(Call { peer, method, optional: false });
        self.sets.push(set.to_owned());
        self
    }

    pub(crate) fn follows(mut self, source: &str, event: &str, set: &[u8]) -> Self {
        self.manifest.follows.push(Followed { source: source.to_owned(), types: vec![event.to_owned()] });
        self.sets.push(set.to_owned());
        self
    }

    pub(crate) fn publishes(mut self, event: &str) -> Self {
        self.manifest.publishes.push(event.to_owned());
        self
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Manifest)) -> Self {
        change(&mut self.manifest);
        self
    }

    pub(crate) fn build(self) -> Build {
        let sets: Vec<_> = self.sets.iter().map(Vec::as_slice).collect();
        let manifest = complete(self.manifest, &sets).unwrap();
        Build::read(&manifest.encode_to_vec()).unwrap()
    }
}
