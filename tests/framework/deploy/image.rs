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

/// Makes all but /data read-only for the program and for nobody else, as Kubernetes does, and runs it in there as the
/// last word says.
const INSIDE: &str = "mount --bind \"$1\" \"$1\" && mount --bind \"$1/data\" \"$1/data\" && mount -o remount,ro,bind \"$1\" && \
                      image=$1 && shift && exec chroot $CHROOT \"$image\" \"$@\"";

/// What the image has, without an engine: the program, the C library, an empty folder for data, and a user without
/// rights.
struct Image {
    folder: tempfile::TempDir,
    is_root: bool,
}

impl Image {
    fn of(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for library in libraries(program) {
            let to = folder.path().join(library.strip_prefix("/").expect("an absolute path"));
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            std::fs::copy(&library, to).expect("a library");
        }
        std::fs::copy(program, folder.path().join("service")).expect("a program");
        std::fs::create_dir(folder.path().join("data")).expect("a folder");
        let id = Command::new("id").arg("-u").output().expect("id runs");
        let is_root = id.stdout.starts_with(b"0\n");
        if is_root {
            // All of it, so that nothing but the mount keeps the user from writing.
            let owned = Command::new("chown").args(["-R", "65532:65532"]).arg(folder.path()).status();
            assert!(owned.expect("chown runs").success());
        }
        Self { folder, is_root }
    }

    /// Runs the program in the image. Root takes the user of the image. Any other user is its own root in a user
    /// namespace, without rights outside.
    fn run(&self, arguments: &[&str]) -> Command {
        let (rights, user) =
            if self.is_root { (None, "--userspec=65532:65532") } else { (Some("--map-root-user"), "--userspec=0:0") };
        // Without PATH, which the image lacks as well.
        let mut run = Command::new(find_program("unshare", &[]).unwrap_or_else(|| "unshare".into()));
        run.args(rights).args(["--mount", "--propagation=private", "--", "sh", "-c"]);
        run.args([&INSIDE.replace("$CHROOT", user), "sh"]).arg(self.folder.path());
        run.arg("/service").args(arguments).env_clear();
        run
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn content_of_the_image_serves_in_a_chroot_that_is_read_only() {
    let Some(dockerfile) = file("container/Dockerfile") else { return };
    if !cfg!(target_os = "linux") {
        return;
    }
    let image = Image::of(Path::new(command("monolith").get_program()));
    if !image.run(&["--version"]).output().is_ok_and(|ran| ran.status.success()) {
        skip_foreign("unshare with namespaces for users and mounts", "a machine that allows them has it");
        return;
    }
    let given =
        dockerfile.split_whitespace().filter(|word| word.starts_with("MESH__")).filter_map(|word| word.split_once('='));
    let given: Vec<_> = given.collect();
    assert_eq!(given, [("MESH__LISTEN", "0.0.0.0:50051"), ("MESH__DATA_DIR", "/data")]);
    let configured = |data: &str| {
        let mut run = image.run(&[]);
        run.envs(given.iter().copied()).env("MESH__LISTEN", "127.0.0.1:0").env("MESH__REGISTRY", "local");
        run.env("MESH__DRAIN_DELAY", "0s").env("MESH__DATA_DIR", data).stdin(Stdio::null());
        run
    };

    let mut child = configured("/data").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let address = line.trim_end().strip_prefix("monolith listening on ").unwrap_or_else(|| panic!("it prints {line}"));
    let answers = ["/readyz", "/healthz"].map(|path| get(address, path));
    let terminated = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(terminated.expect("kill runs").success());
    let status = eventually("the process ends", || child.try_wait().expect("a child"));
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert!(status.success(), "{status}");
    // Elsewhere it could not have written: the chroot is what it is called.
    if root().join("services/catalog").exists() {
        let refused = configured("/elsewhere").output().expect("it runs");
        let log = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && log.contains("Read-only file system"), "{log}");
    }
}
