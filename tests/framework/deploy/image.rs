//! What an image has, without an engine.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{command, eventually, find_program, root, skip_foreign};

use super::file;

#[test]
fn dockerfile_is_of_this_project() {
    let Some(dockerfile) = file("container/Dockerfile") else { return };
    let manifest: toml::Table =
        std::fs::read_to_string(root().join("Cargo.toml")).expect("a file").parse().expect("TOML");
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().expect("a version");
    assert!(
        dockerfile.contains(&format!("\nFROM rust:{rust}-")),
        "the image has another version than Cargo.toml, {rust}"
    );
    let stages: Vec<_> = dockerfile.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert_eq!(stages.len(), 2, "{stages:?}");
    for line in ["ARG SERVICE", "USER 65532", "ENTRYPOINT [\"/service\"]"] {
        assert!(dockerfile.lines().any(|found| found == line), "there is no line {line}");
    }
    // What is not to be in an image, or would make every build a new one.
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).expect("a file");
    for name in [".git", ".mesh/ca", "data", "target", "**/.env", "**/*.key", "**/*.pem", "**/*.db*"] {
        assert!(ignored.lines().any(|line| line == name), ".dockerignore has no {name}");
    }
}

/// The files that a program needs, by `ldd`.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().expect("ldd runs");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    listed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// What the image has, without an engine: the program, the C library, an empty folder for data, and a user without rights.
#[test]
fn content_of_the_image_serves_in_a_chroot() {
    let Some(dockerfile) = file("container/Dockerfile") else { return };
    if !cfg!(target_os = "linux") {
        return;
    }
    let image = tempfile::tempdir().expect("a folder");
    let program = command("monolith").get_program().to_owned();
    for library in libraries(Path::new(&program)) {
        let to = image.path().join(library.strip_prefix("/").expect("an absolute path"));
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(&library, to).expect("a library");
    }
    std::fs::copy(&program, image.path().join("service")).expect("a program");
    std::fs::create_dir(image.path().join("data")).expect("a folder");
    // Root takes the user of the image. Any other user is its own root in a user namespace, without rights outside.
    let id = Command::new("id").arg("-u").output().expect("id runs");
    let is_root = id.stdout.starts_with(b"0\n");
    if is_root {
        let owned = Command::new("chown").args(["-R", "65532:65532"]).arg(image.path()).status();
        assert!(owned.expect("chown runs").success());
    }
    let inside = |arguments: &[&str]| {
        let program = if is_root { "chroot" } else { "unshare" };
        // Without PATH, which the image lacks as well.
        let mut run = Command::new(find_program(program, &["/usr/sbin".into()]).unwrap_or_else(|| program.into()));
        if is_root {
            run.arg("--userspec=65532:65532").arg(image.path());
        } else {
            run.args(["--map-root-user", "--root"]).arg(image.path()).arg("--");
        }
        run.arg("/service").args(arguments).env_clear();
        run
    };
    if !inside(&["--version"]).output().is_ok_and(|ran| ran.status.success()) {
        skip_foreign("unshare with user namespaces", "a machine that allows them has it");
        return;
    }
    let mut run = inside(&[]);
    let given =
        dockerfile.split_whitespace().filter(|word| word.starts_with("MESH__")).filter_map(|word| word.split_once('='));
    let given: Vec<_> = given.collect();
    assert_eq!(given, [("MESH__LISTEN", "0.0.0.0:50051"), ("MESH__DATA_DIR", "/data")]);
    run.envs(given).env("MESH__LISTEN", "127.0.0.1:0").env("MESH__REGISTRY", "local").env("MESH__DRAIN_DELAY", "0s");
    let mut child = run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("monolith listening on ").unwrap_or_else(|| panic!("it prints {line}"));
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let terminated = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(terminated.expect("kill runs").success());
    let status = eventually("the process ends", || child.try_wait().expect("a child"));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(status.success(), "{status}");
    let made: Vec<_> =
        std::fs::read_dir(image.path()).expect("the image").flatten().map(|entry| entry.file_name()).collect();
    assert!(
        made.iter().all(|name| ["data", "lib", "lib64", "service", "usr"].iter().any(|known| name == known)),
        "{made:?}"
    );
}
