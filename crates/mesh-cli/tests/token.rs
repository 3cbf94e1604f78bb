//! `mesh token`, and whether its tokens count.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use mesh_token::development::{AUDIENCE, ISSUER, KEYS};
use mesh_token::{Issuer, Tokens};

fn mesh(folder: &Path, arguments: &[&str]) -> Output {
    let mut mesh = Command::new(env!("CARGO_BIN_EXE_mesh"));
    mesh.args(arguments).current_dir(folder).output().expect("the command runs")
}

#[tokio::test]
async fn token_counts_by_the_keys_beside_it() {
    let project = tempfile::tempdir().expect("a temporary folder");
    fs::write(project.path().join("mesh.toml"), "").expect("a file");
    let arguments = ["token", "--sub", "alice", "--scope", "catalog.write,c", "--scope", "b", "--for", "10m"];
    let first = mesh(project.path(), &arguments);
    assert!(first.status.success() && first.stderr.is_empty(), "{first:?}");
    let token = String::from_utf8(first.stdout).expect("a token");
    let token = token.strip_suffix('\n').expect("one line");

    let keys = project.path().join(KEYS);
    let issuer = Issuer::new(ISSUER, AUDIENCE, keys.to_str()).expect("an issuer");
    let tokens = Tokens::new(vec![issuer]).expect("one issuer");
    let user = tokens.check(token).await.expect("a valid token");
    assert_eq!((user.issuer.as_str(), user.subject.as_str()), (ISSUER, "alice"));
    assert!(user.scopes.iter().eq(["b", "c", "catalog.write"]), "{:?}", user.scopes);
    let left = user.until.duration_since(SystemTime::now()).expect("the future");
    assert!(left > Duration::from_secs(540) && left <= Duration::from_secs(600), "{left:?}");

    let second = mesh(project.path(), &["token", "--sub", "bob"]);
    let second = String::from_utf8(second.stdout).expect("a token");
    assert_eq!(tokens.check(second.trim_end()).await.expect("the same issuer").subject, "bob");
}

#[test]
fn token_that_cannot_be_signed_is_one_line_of_error() {
    let project = tempfile::tempdir().expect("a temporary folder");
    let failed = |arguments: &[&str], why: &str| {
        let output = mesh(project.path(), &[&["token", "--sub"], arguments].concat());
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(error.lines().count() == 1 && error.contains(why), "{arguments:?}: {error}");
    };
    failed(&["alice"], "no mesh.toml");
    assert!(!project.path().join(".mesh").exists());
    fs::write(project.path().join("mesh.toml"), "").expect("a file");
    failed(&[""], "1 to 255 bytes");
    failed(&["alice", "--scope", "two words"], "`two words`");
    failed(&["alice", "--scope", "a,"], "`` is not a scope");
    failed(&["alice", "--for", "31d"], "30 days");
    fs::write(project.path().join(".mesh/ca/issuer.key"), "something else").expect("a file");
    failed(&["alice"], "issuer.key");
}
