//! The units of systemd.

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Process, command, find_program, root, skip_foreign};

use super::file;

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

    /// The complaints about a unit, whose program is replaced by one that exists. `systemd-analyze verify` succeeds
    /// with unknown keys and bad values: its standard error tells.
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
