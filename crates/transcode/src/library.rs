//! A service with rules of every kind, for the tests of this crate.

use prost_reflect::{DescriptorPool, MethodDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver, IncludeFileResolver};

use crate::{Routes, RuleError, Schema};

/// The full name of the option that marks a revision.
pub(crate) const REVISION: &str = "mesh.options.v1.revision";

/// The routes of the library.
pub(crate) fn routes() -> Routes {
    let pool = pool(PROTO);
    Routes::new(&Schema::new(&pool), methods(&pool), REVISION).expect("the rules hold")
}

/// The mistakes in the rules of a file.
pub(crate) fn mistakes(source: &'static str) -> Vec<RuleError> {
    let pool = pool(source);
    Routes::new(&Schema::new(&pool), methods(&pool), REVISION).err().unwrap_or_default()
}

pub(crate) fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
}

/// Compiles one file, with the imports of this workspace.
pub(crate) fn pool(source: &'static str) -> DescriptorPool {
    let mut files = ChainFileResolver::new();
    files.add(Source(source));
    files.add(IncludeFileResolver::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../proto").into()));
    files.add(GoogleFileResolver::new());
    let mut compiler = Compiler::with_file_resolver(files);
    compiler.include_imports(true).include_source_info(true).open_file(NAME).expect("the file compiles");
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).expect("the set is complete")
}

struct Source(&'static str);

impl FileResolver for Source {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        if name == NAME { File::from_source(name, self.0) } else { Err(protox::Error::file_not_found(name)) }
    }
}

const NAME: &str = "library.proto";

pub(crate) const PROTO: &str = r#"
syntax = "proto3";

// A library, for tests.
package library.v1;

import "buf/validate/validate.proto";
import "google/api/annotations.proto";
import "google/api/field_behavior.proto";
import "google/api/httpbody.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "mesh/options/v1/options.proto";

// Lends books. Other services read them.
service Library {
  // Adds a book. The answer has its id.
  //
  // INVALID_ARGUMENT: INVALID_FIELDS (lists all of them), REQUEST_ID_REUSED.
  rpc CreateBook(CreateBookRequest) returns (BookResponse) {
    option (google.api.http) = {post: "/v1/books" body: "*" response_body: "book"};
  }

  // Gives one book.
  //
  // INVALID_ARGUMENT: INVALID_FIELDS. NOT_FOUND: BOOK_NOT_FOUND.
  rpc GetBook(GetBookRequest) returns (BookResponse) {
    option (google.api.http) = {
      get: "/v1/books/{book_id}"
      response_body: "book"
      additional_bindings {get: "/v1/{name=shelves/*/books/*}"}
      additional_bindings {get: "/v1/files/{name=**}:read"}
    };
  }

  // Lists books.
  rpc ListBooks(ListBooksRequest) returns (ListBooksResponse) {
    option (google.api.http) = {get: "/v1/books"};
  }

  // Changes a book, if it is still at the revision that was read.
  //
  // FAILED_PRECONDITION: STALE_REVISION, with current_revision in its metadata. Read the book again.
  // NOT_FOUND: BOOK_NOT_FOUND.
  rpc UpdateBook(UpdateBookRequest) returns (BookResponse) {
    option (google.api.http) = {patch: "/v1/books/{book.book_id}" body: "book" response_body: "book"};
  }

  // Deletes a book.
  rpc DeleteBook(GetBookRequest) returns (Nothing) {
    option (google.api.http) = {delete: "/v1/books/{book_id}"};
  }

  // Sets the cover of a book.
  rpc SetCover(SetCoverRequest) returns (Nothing) {
    option (google.api.http) = {
      post: "/v1/books/{book_id}/cover:upload"
      body: "image"
      additional_bindings {post: "/v1/books/{book_id}/cover" body: "*"}
      additional_bindings {post: "/v1/books/{book_id}/scan" body: "scan"}
    };
  }

  // Gives the cover of a book as a picture.
  rpc GetCover(GetBookRequest) returns (google.api.HttpBody) {
    option (google.api.http) = {get: "/v1/books/{book_id}/cover"};
  }

  // Follows the changes of a book.
  rpc WatchBook(GetBookRequest) returns (stream BookResponse) {
    option (google.api.http) = {get: "/v1/books/{book_id}:watch"};
  }

  // Talks.
  rpc Talk(stream Nothing) returns (stream BookResponse) {
    option (google.api.http) = {custom: {kind: "WEBSOCKET" path: "/v1/talk"}};
  }

  // Has no rule.
  rpc Internal(Nothing) returns (Nothing);
}

message Nothing {}

// A book.
message Book {
  // A UUID.
  string book_id = 1 [(google.api.field_behavior) = OUTPUT_ONLY];
  // 1 to 200 characters.
  string name = 2 [
    (google.api.field_behavior) = REQUIRED,
    (buf.validate.field).string.min_len = 1,
    (buf.validate.field).string.max_len = 200,
    (buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE
  ];
  // The price in cents.
  int64 price_cents = 3 [(buf.validate.field).int64.gte = 0, (buf.validate.field).int64.lte = 999];
  // The number of changes.
  int64 revision = 4 [(mesh.options.v1.revision) = true];
  // When the book was created.
  google.protobuf.Timestamp create_time = 5 [(google.api.field_behavior) = OUTPUT_ONLY];
  // Who wrote it.
  Author author = 6;
  repeated string tags = 7 [
    (buf.validate.field).repeated.max_items = 9,
    (buf.validate.field).repeated.items.string.pattern = "^[a-z]+$"
  ];
  map<string, int64> copies = 8;
  Genre genre = 9;
  // The book that this one continues.
  Book sequel_of = 10;
  bytes digest = 11 [(buf.validate.field).bytes.max_len = 32];
  double weight = 12;
  bool lent = 13;
  google.protobuf.Duration loan = 14 [(buf.validate.field).duration.gte = {}];
  google.protobuf.Struct notes = 15;
  google.protobuf.StringValue nickname = 16;
  optional uint32 pages = 17;
  // Absent or a year.
  int32 year = 20 [
    (buf.validate.field).int32.gte = 1450,
    (buf.validate.field).int32.lte = 2100,
    (buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE
  ];
  // Absent or a UUID.
  string owner = 21 [(buf.validate.field).string.uuid = true, (buf.validate.field).ignore = IGNORE_IF_ZERO_VALUE];
  // Where the book is.
  oneof place {
    // A shelf.
    string shelf = 18;
    // A reader.
    string reader = 19;
  }
}

// An author.
message Author {
  // The name.
  string name = 1;
  string email = 2;
}

// What a book is about.
enum Genre {
  // Not known.
  GENRE_UNSPECIFIED = 0;
  // Dragons.
  GENRE_FANTASY = 1;
  GENRE_CRIME = 2;
}

message CreateBookRequest {
  // A UUID that the caller generates.
  string request_id = 1 [(google.api.field_behavior) = REQUIRED];
  // The book.
  Book book = 2 [(google.api.field_behavior) = REQUIRED];
}

message BookResponse {
  // The book.
  Book book = 1;
}

message GetBookRequest {
  string book_id = 1 [(google.api.field_behavior) = REQUIRED, (buf.validate.field).string.uuid = true];
  string name = 2 [(buf.validate.field).string.pattern = "^shelves/[^/]+/books/[a-z](/x|-[0-9]+){2}$"];
  string request_id = 3;
}

message ListBooksRequest {
  // The most books.
  int32 page_size = 1 [(buf.validate.field).int32.gte = 0];
  string page_token = 2;
  repeated Genre genres = 3;
  repeated int32 years = 4 [(buf.validate.field).repeated.min_items = 1, (buf.validate.field).repeated.items.int32.lte = 2100];
  Filter filter = 5;
  google.protobuf.FieldMask read_mask = 6;
  map<string, string> labels = 7;
  google.protobuf.Struct anything = 8;
  bool lent = 9;
  Genre genre = 10 [(buf.validate.field).enum.not_in = 0];
}

message Filter {
  string author = 1;
  google.protobuf.Timestamp since = 2;
  oneof by {
    string shelf = 3;
    string reader = 4;
  }
  Filter but = 5;
}

message ListBooksResponse {
  repeated Book books = 1;
  string next_page_token = 2;
}

message UpdateBookRequest {
  Book book = 1 [(google.api.field_behavior) = REQUIRED];
  google.protobuf.FieldMask update_mask = 2;
  bool validate_only = 3;
}

message SetCoverRequest {
  string book_id = 1;
  bytes image = 2;
  string request_id = 3 [(google.api.field_behavior) = REQUIRED];
  google.api.HttpBody scan = 4;
}
"#;
