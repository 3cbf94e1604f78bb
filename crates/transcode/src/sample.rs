//! Messages for the tests of this crate.

use prost_reflect::DescriptorPool;
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::Schema;

pub(crate) fn schema() -> Schema {
    Schema::new(&pool())
}

pub(crate) fn pool() -> DescriptorPool {
    let mut files = ChainFileResolver::new();
    files.add(Sample);
    files.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(files);
    compiler.include_imports(true).open_file(NAME).expect("the messages compile");
    compiler.descriptor_pool()
}

struct Sample;

impl FileResolver for Sample {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == NAME { File::from_source(name, PROTO) } else { Err(protox::Error::file_not_found(name)) }
    }
}

const NAME: &str = "sample.proto";

const PROTO: &str = r#"
syntax = "proto3";

package sample.v1;

import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/empty.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message GetTitleResponse {
  Title title = 1;
}

message ListTitlesResponse {
  repeated Title titles = 1;
  string next_page_token = 2;
}

message Title {
  string title_id = 1;
  string name = 2;
  int32 year = 3;
  repeated Genre genres = 4;
  string synopsis = 5;
  int64 revision = 6;
  google.protobuf.Timestamp create_time = 7;
  google.protobuf.Timestamp update_time = 8;
  optional int32 minutes = 9;
}

enum Genre {
  GENRE_UNSPECIFIED = 0;
  GENRE_DRAMA = 1;
  GENRE_COMEDY = 2;
}

// A field of every kind.
message Everything {
  double double = 1;
  float float = 2;
  int32 int32 = 3;
  int64 int64 = 4;
  uint32 uint32 = 5;
  uint64 uint64 = 6;
  sint32 sint32 = 7;
  sint64 sint64 = 8;
  fixed32 fixed32 = 9;
  fixed64 fixed64 = 10;
  sfixed32 sfixed32 = 11;
  sfixed64 sfixed64 = 12;
  bool bool = 13;
  string string = 14;
  bytes bytes = 15;
  Genre genre = 16;
  Everything child = 17;
  optional string maybe = 18;
  oneof choice {
    string text = 19;
    int64 amount = 20;
    Title title = 21;
    google.protobuf.NullValue nothing = 22;
  }
  repeated int32 numbers = 30;
  repeated string strings = 31;
  repeated Everything children = 32;
  repeated Genre kinds = 33;
  repeated int32 unpacked = 34 [packed = false];
  map<string, string> labels = 40;
  map<int32, Title> titles = 41;
  map<bool, int64> flags = 42;
  google.protobuf.Any any = 50;
  google.protobuf.Duration duration = 51;
  google.protobuf.Empty empty = 52;
  google.protobuf.FieldMask mask = 53;
  google.protobuf.ListValue list = 54;
  google.protobuf.Struct struct = 55;
  google.protobuf.Timestamp time = 56;
  google.protobuf.Value value = 57;
  google.protobuf.Int64Value wrapped_int64 = 58;
  google.protobuf.StringValue wrapped_string = 59;
  google.protobuf.BytesValue wrapped_bytes = 60;
  repeated google.protobuf.Value values = 61;
  repeated google.protobuf.Timestamp times = 62;
  string renamed = 63 [json_name = "another \"name\""];
}
"#;
