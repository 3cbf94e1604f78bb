//! The example client that rents, with a token.

use harness::{Process, command, token};

/// Runs the example with a token, or without one if it is empty.
fn rent(process: &Process, token: &str) -> (bool, String) {
    let mut example = command("rent");
    example.arg(format!("http://{}", process.address)).env("MESH_TOKEN", token);
    let output = example.output().expect("the example runs");
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn example_rents_for_the_user_of_its_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let alice = token(folder.path(), "alice", &["catalog.write"], "1h");
    let monolith = Process::start_in(folder, "monolith", &[("MESH__AUTH__MODE", "required")]);
    let (succeeded, text) = rent(&monolith, &alice);
    assert!(succeeded && text.contains("rented     ") && text.contains("undone     "), "{text}");
    let (succeeded, text) = rent(&monolith, "");
    assert!(!succeeded && text.contains("error: Unauthenticated"), "{text}");
}
