//! The project under test.

use std::path::Path;

/// The root folder of the project.
pub fn root() -> &'static Path {
    // This crate is two folders below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a folder above this one")
}

/// A new UUID.
pub fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}
