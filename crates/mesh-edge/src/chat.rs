//! A contract for tests.

use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

const PROTO: &str = r#"
syntax = "proto3";
package chat.v1;

import "google/api/annotations.proto";
import "google/protobuf/struct.proto";
import "mesh/options/v1/options.proto";

service Chat {
  rpc Talk(stream Line) returns (stream Line) {
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
    option (google.api.http) = {custom: {kind: "WEBSOCKET" path: "/v1/rooms/{room}:talk"}};
  }
  rpc Join(stream Line) returns (Line) {
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
    option (google.api.http) = {custom: {kind: "WEBSOCKET" path: "/v1/rooms/{room}:join"}};
  }
  rpc Count(Line) returns (stream Line) {
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
    option (google.api.http) = {get: "/v1/rooms/{room}:count"};
  }
  rpc Read(Line) returns (Line) {
    option (mesh.options.v1.authorization) = {access: ACCESS_AUTHENTICATED};
    option (mesh.options.v1.cache) = {max_age: {seconds: 60} public: true};
    option (google.api.http) = {get: "/v1/rooms/{room}"};
  }
  rpc Watch(Line) returns (stream Line) {
    option (mesh.options.v1.authorization) = {access: ACCESS_AUTHENTICATED};
    option (google.api.http) = {get: "/v1/rooms/{room}:watch"};
  }
  rpc Board(Line) returns (Line) {
    option (mesh.options.v1.authorization) = {access: ACCESS_PUBLIC};
    option (mesh.options.v1.cache) = {max_age: {seconds: 60} public: true};
    option (google.api.http) = {get: "/v1/board"};
  }
}

message Line {
  string room = 1;
  string text = 2;
  google.protobuf.Value extra = 3;
}
"#;

struct Source;

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == "chat.proto" { File::from_source(name, PROTO) } else { Err(protox::Error::file_not_found(name)) }
    }
}

/// The descriptor set of the contract.
pub(crate) fn descriptors() -> Vec<u8> {
    let mut files = ChainFileResolver::new();
    files.add(Source);
    files.add(IncludeFileResolver::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto").into()));
    files.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(files);
    compiler.include_imports(true).open_file("chat.proto").unwrap();
    compiler.encode_file_descriptor_set()
}
