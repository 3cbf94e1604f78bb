//! What an operator reads when a process cannot start: one line that says what to do, and a non-zero exit.

use std::path::Path;

use harness::{command, output};

/// The complaints of a process that refuses to start.
pub(crate) fn refuses(arguments: &[&str], prepare: impl FnOnce(&Path)) -> Vec<String> {
    let output = output("monolith", arguments, prepare);
    assert!(!output.status.success());
    assert!(output.stdout.is_empty(), "it said that it listens");
    let complaints = String::from_utf8(output.stderr).expect("UTF-8");
    complaints.lines().map(|line| line.strip_prefix("error: ").expect("an error").to_owned()).collect()
}

/// The one complaint, which says all of `words`.
pub(crate) fn refuses_with(words: &[&str], arguments: &[&str], prepare: impl FnOnce(&Path)) {
    let complaints = refuses(arguments, prepare);
    assert_eq!(complaints.len(), 1, "{complaints:#?}");
    for word in words {
        assert!(complaints[0].contains(word), "`{word}` is not in: {}", complaints[0]);
    }
}

pub(crate) fn mesh_toml(text: &str) -> impl FnOnce(&Path) {
    move |folder| std::fs::write(folder.join("mesh.toml"), text).expect("a file")
}

pub(crate) const FREE: &str = "--listen=127.0.0.1:0";

#[test]
fn a_taken_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    refuses_with(&[&address, "another process", "--listen"], &["--listen", &address], |_| ());
}

#[test]
fn a_variable_with_too_few_underscores() {
    let mut command = command("monolith");
    let refused = command.env("MESH_LISTEN", "127.0.0.1:0").arg(FREE).output().expect("it starts");
    assert!(!refused.status.success());
    let complaint = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(complaint.contains("MESH_LISTEN") && complaint.contains("MESH__LISTEN"), "{complaint}");
}

#[test]
fn a_taken_port_for_the_pages() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    refuses_with(&[&address, "admin.listen"], &[FREE, &format!("--set=admin.listen={address}")], |_| ());
}

#[test]
fn a_misspelt_key_anywhere() {
    for (text, key, meant) in
        [("lisen = '127.0.0.1:0'", "lisen", "listen"), ("[log]\nformt = 'json'", "log.formt", "log.format")]
    {
        refuses_with(&["mesh.toml", &format!("`{key}`"), meant], &[FREE], mesh_toml(text));
    }
}

#[test]
fn a_value_that_is_not_allowed() {
    for (text, key, allowed) in [
        ("drain_limit = '11min'", "drain_limit", "0s to 10min"),
        ("call_deadline = 5", "call_deadline", "1ms to 1h"),
        ("[log]\nlevel = 'loud'", "log.level", "debug"),
    ] {
        refuses_with(&["mesh.toml", key, allowed], &[FREE], mesh_toml(text));
    }
}

#[test]
fn a_file_that_is_not_toml() {
    refuses_with(&["mesh.toml", "line 2"], &[FREE], mesh_toml("listen = '127.0.0.1:0'\nlog ="));
}

#[test]
fn a_file_that_is_not_there() {
    refuses_with(&["nowhere.toml", "cannot be read"], &[FREE, "--config=nowhere.toml"], |_| ());
}

#[test]
fn everything_wrong_at_once() {
    let complaints = refuses(&[FREE, "--set=nonsense"], mesh_toml("lisen = 'x'\ndrain_limit = 'x'"));
    assert_eq!(complaints.len(), 3, "{complaints:#?}");
}

#[test]
fn a_flag_that_does_not_exist() {
    let output = output("monolith", &["--lisen=x"], |_| ());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--listen"));
}
