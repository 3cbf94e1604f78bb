//! The files of deploy/: what they configure, and what runs by them. .ci/deploy has the checks that need other programs. The
//! owner of a project may delete the folder.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Process, command, eventually, find_program, root, skip_foreign};

/// A file of deploy/; `None` if it is deleted.
fn file(path: &str) -> Option<String> {
    std::fs::read_to_string(root().join("deploy").join(path)).ok()
}

/// The services with a folder, without monolith and gateway.
fn services() -> Vec<String> {
    let folders = std::fs::read_dir(root().join("services")).expect("services").flatten();
    let names = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| root().join("services").join(name).join("src/lib.rs").exists()).collect()
}

/// The variables of lines such as `  MESH__TLS__MODE: plaintext`, below a line of compose.yaml.
fn variables(compose: &str, below: &str) -> Vec<(String, String)> {
    let lines = compose.split_once(below).unwrap_or_else(|| panic!("{below} is not there")).1.lines().skip(1);
    let lines = lines.skip_while(|line| !line.trim().starts_with("MESH__"));
    let lines = lines.map_while(|line| line.trim().split_once(": ").filter(|(name, _)| name.starts_with("MESH__")));
    let value = |value: &str| value.trim_matches('"').replace("${POSTGRES_PASSWORD:-development}", "development");
    let found: Vec<_> = lines.map(|(name, text)| (name.to_owned(), value(text))).collect();
    assert!(found.len() > 2, "{found:?}");
    found
}

/// Checks the configuration that these variables give a program, and prints it.
fn configured(binary: &str, variables: &[(String, String)]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut checked = command(binary);
    checked.current_dir(folder.path()).env("MESH__LISTEN", "0.0.0.0:50051");
    checked.envs(variables.iter().map(|(name, value)| (name, value))).arg("--print-config");
    let checked = checked.output().expect("it runs");
    let errors = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && errors.is_empty(), "{binary}: {errors}");
    String::from_utf8(checked.stdout).expect("UTF-8")
}

#[test]
fn compose_configures_each_service() {
    let Some(compose) = file("container/compose.yaml") else { return };
    let shared = variables(&compose, "x-environment: ");
    for service in services() {
        let line = format!("\n  {service}: {{<<: *service, build: {{<<: *build, args: {{SERVICE: {service}}}}}}}\n");
        assert!(compose.contains(&line), "deploy/container/compose.yaml has no line{line}");
        let config = configured(&service, &shared);
        for peer in services().iter().filter(|peer| **peer != service) {
            let address = format!("static.{peer} = \"{peer}:50051\"");
            assert!(config.contains(&address), "{service} looks for {peer} elsewhere:\n{config}");
        }
        let owns_data = root().join("services").join(&service).join("migrations").is_dir();
        assert_eq!(config.contains(&format!("services.{service}.database_url is set")), owns_data, "{config}");
    }
    let config = configured("gateway", &[shared, variables(&compose, "\n  gateway:")].concat());
    assert!(config.contains("listen = \"0.0.0.0:8080\"") && config.contains("edge.enabled = true"), "{config}");
}

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

/// The lines `KEY=VALUE` of a section of the unit, with `%i` and `%S` as systemd would replace them.
fn unit(service: &str, state: &Path) -> Option<Vec<(String, String)>> {
    let text = file("systemd/mesh@.service")?;
    let text = text.replace("%i", service).replace("%S", state.to_str().expect("UTF-8"));
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Some(lines.filter_map(|line| line.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

#[test]
fn unit_starts_a_service_and_waits_until_it_serves() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(unit) = unit("monolith", folder.path()) else { return };
    let value = |key: &str| {
        let mut values = unit.iter().filter(|(found, _)| found == key).map(|(_, value)| value.clone());
        values.next().unwrap_or_else(|| panic!("the unit has no {key}"))
    };
    assert_eq!(value("Type"), "notify");
    assert_eq!(value("StateDirectory"), "mesh/monolith");
    assert_eq!(value("ExecStart"), "/usr/local/lib/mesh/monolith --config /etc/mesh/mesh.toml");
    // The file of the project is one that the option takes.
    let mut checked = command("monolith");
    checked.arg("--config").arg(root().join("mesh.toml")).arg("--check-config");
    assert!(checked.status().expect("it runs").success());

    std::fs::create_dir_all(folder.path().join("mesh/monolith")).expect("the state directory");
    let socket = std::os::unix::net::UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
    socket.set_read_timeout(Some(harness::LIMIT)).expect("a timeout");
    let heard = || {
        let mut message = [0; 100];
        let length = socket.recv(&mut message).expect("the process notifies");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let (data, notify) = (value("Environment"), folder.path().join("notify"));
    let data = data.strip_prefix("MESH__DATA_DIR=").expect("the folder");
    let mut process =
        Process::start("monolith", &[("MESH__DATA_DIR", data), ("NOTIFY_SOCKET", notify.to_str().expect("UTF-8"))]);
    assert_eq!(heard(), "READY=1");
    assert!(process.http("/readyz").starts_with("HTTP/1.1 200"));
    process.signal("TERM");
    assert_eq!(heard(), "STOPPING=1");
    let (status, took) = process.ended();
    let limit: u64 = value("TimeoutStopSec").strip_suffix('s').and_then(|text| text.parse().ok()).expect("seconds");
    assert!(status.success() && took.as_secs() < limit, "{status} after {took:?}");
}

/// What systemd says of units, by their names. `None` without systemd.
struct Units {
    folder: tempfile::TempDir,
    analyze: PathBuf,
}

impl Units {
    fn installed() -> Option<Self> {
        let Some(analyze) = find_program("systemd-analyze", &[]) else {
            skip_foreign("systemd-analyze", "the package systemd has it");
            return None;
        };
        Some(Self { folder: tempfile::tempdir().expect("a folder"), analyze })
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// The complaints about a unit, whose program is replaced by one that exists. `systemd-analyze verify` succeeds with unknown
    /// keys and bad values: its standard error tells.
    fn complaints(&self, name: &str, text: &str) -> Vec<String> {
        let program = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a program");
        let program = program.split(' ').next().expect("a word");
        let path = self.write(name, &text.replace(program, "/bin/true"));
        let verified = Command::new(&self.analyze).args(["verify", "--man=no"]).arg(path).output().expect("it runs");
        let errors = String::from_utf8_lossy(&verified.stderr).into_owned();
        // Of other units of this machine it complains, too.
        let (stem, _) = name.split_once(['@', '.']).expect("a unit");
        errors.lines().filter(|line| line.contains(stem)).map(str::to_owned).collect()
    }

    fn is_little_exposed(&self, name: &str, text: &str) {
        let mut exposed = Command::new(&self.analyze);
        exposed.args(["security", "--offline=true", "--threshold=30"]).arg(self.write(name, text));
        let exposed = exposed.output().expect("it runs");
        assert!(exposed.status.success(), "{name}, above 3.0 of 10:\n{}", String::from_utf8_lossy(&exposed.stdout));
    }
}

#[test]
fn units_are_what_systemd_reads_and_little_is_exposed() {
    let Some(units) = Units::installed() else { return };
    let all = [
        ("mesh@catalog.service", "systemd/mesh@.service"),
        ("recommendations-sidecar.service", "sidecar/sidecar.service"),
        ("recommendations.service", "sidecar/app.service"),
    ];
    let texts: Vec<_> = all.iter().filter_map(|(name, path)| Some((*name, file(path)?))).collect();
    // They name each other.
    for (name, text) in &texts {
        units.write(name, text);
    }
    for (name, text) in &texts {
        assert_eq!(units.complaints(name, text), [""; 0], "{name}");
        for (right, wrong) in [("ProtectHome=yes", "ProtectHouse=yes"), ("Restart=on-failure", "Restart=perhaps")] {
            assert!(text.contains(right), "{name} has no {right}");
            assert_ne!(units.complaints(name, &text.replace(right, wrong)), [""; 0], "{name}: {wrong}");
        }
        units.is_little_exposed(name, text);
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
