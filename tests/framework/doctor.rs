//! `mesh doctor`, on a machine that has exactly the programs and ports of the test.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use harness::{Process, command};
use tempfile::TempDir;

/// The required programs, in versions that are new enough.
const NEEDED: [(&str, &str); 3] = [("rustc", "rustc 99.0.0 (x)"), ("cargo", "cargo 99.0.0"), ("cc", "cc (x) 99.0.0")];

/// A project without services, on a machine without programs.
struct Machine {
    project: TempDir,
    listen: SocketAddr,
}

impl Machine {
    fn with(programs: &[(&str, &str)]) -> Self {
        let project = tempfile::tempdir().expect("a temporary folder");
        // Port 0 is always free.
        let machine = Self { project, listen: SocketAddr::from(([127, 0, 0, 1], 0)) };
        programs.iter().for_each(|(name, version)| machine.install("bin", name, version));
        machine
    }

    /// Writes a program that prints its version into a folder of the project. A shell writes the file: a file that this
    /// process, or a child of another test, has open for writing cannot be executed.
    fn install(&self, folder: &str, name: &str, version: &str) {
        let folder = self.project.path().join(folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        let write = r#"printf '#!/bin/sh\necho "%s"\n' "$1" >"$0" && chmod 755 "$0""#;
        let written = Command::new("/bin/sh").arg("-c").arg(write).arg(folder.join(name)).arg(version).status();
        assert!(written.expect("a shell runs").success());
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.project.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    fn doctor(&self) -> Report {
        let mut doctor = command("mesh");
        doctor.arg("doctor").current_dir(self.project.path()).env("PATH", self.project.path().join("bin"));
        doctor.env("MESH__LISTEN", self.listen.to_string());
        let report = doctor.stdin(Stdio::null()).output().expect("mesh runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Report { code: report.status.code(), table: text(report.stdout), error: text(report.stderr) }
    }
}

/// The exit code and the output.
#[derive(Debug)]
struct Report {
    code: Option<i32>,
    table: String,
    error: String,
}

impl Report {
    /// The line of a program or of an address.
    fn line(&self, what: &str) -> &str {
        let mut lines = self.table.lines();
        lines.find(|line| line.split(' ').next() == Some(what)).unwrap_or_else(|| panic!("no {what}: {self:?}"))
    }

    fn succeeds(&self) {
        assert_eq!((self.code, &*self.error), (Some(0), ""), "{self:?}");
        assert!(self.table.ends_with("have all they need\n"), "{self:?}");
    }

    /// Asserts that the command fails with one line that contains all `words`.
    fn fails_with(&self, words: &[&str]) {
        assert_eq!((self.code, self.error.lines().count()), (Some(1), 1), "{self:?}");
        assert!(words.iter().all(|word| self.error.contains(word)), "{words:?}: {self:?}");
    }
}

fn contains_all(line: &str, words: &[&str]) {
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
}

#[test]
fn doctor_succeeds_with_the_required_programs() {
    let report = Machine::with(&NEEDED).doctor();
    report.succeeds();
    contains_all(report.line("rustc"), &["needed", "ok", "99.0.0"]);
    contains_all(report.line("consul"), &["optional", "missing", "scripts/up", "scripts/tools consul"]);
    contains_all(report.line("cargo-generate"), &["optional", "missing", "cargo install cargo-generate"]);
}

#[test]
fn doctor_names_a_missing_program_and_its_installer() {
    let report = Machine::with(&NEEDED[1..]).doctor();
    report.fails_with(&["rustc (missing)"]);
    contains_all(report.line("rustc"), &["needed", "missing", "rustup"]);
}

#[test]
fn doctor_reports_old_versions() {
    let [_, cargo, cc] = NEEDED;
    let report = Machine::with(&[("rustc", "rustc 1.70.0 (x)"), cargo, cc]).doctor();
    report.fails_with(&["rustc (too old)"]);
    contains_all(report.line("rustc"), &["too old", "1.70.0", "or later: rustup update"]);

    let machine = Machine::with(&NEEDED);
    machine.install("bin", "consul", "Consul v1.7.9");
    let report = machine.doctor();
    report.succeeds();
    contains_all(report.line("consul"), &["too old", "1.7.9", "1.8 or later: remove it, then scripts/tools consul"]);
}

#[test]
fn doctor_prefers_tools_to_path() {
    let machine = Machine::with(&NEEDED);
    machine.install("bin", "grpcurl", "grpcurl v1.0.0");
    machine.install(".tools/bin", "grpcurl", "grpcurl v1.9.1");
    contains_all(machine.doctor().line("grpcurl"), &["ok", "1.9.1", ".tools/bin/grpcurl"]);
}

#[test]
fn doctor_names_the_process_on_a_taken_port() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let mut machine = Machine::with(&NEEDED);
    machine.file("services/catalog/src/lib.rs", "Service::new(\"catalog\").port(50051)");
    // `MESH__LISTEN`, which this test sets, would apply to all services.
    machine.file("mesh.toml", &format!("[services.catalog]\nlisten = \"{address}\"\n"));
    let report = machine.doctor();
    report.succeeds();
    contains_all(report.line(&address.to_string()), &["optional", "taken", "catalog", "services.catalog.listen"]);

    machine.listen = address;
    let report = machine.doctor();
    report.fails_with(&[&format!("{address} (taken)")]);
    contains_all(report.line(&address.to_string()), &["needed", "taken", "cargo run", "--listen"]);
    if cfg!(target_os = "linux") {
        contains_all(report.line(&address.to_string()), &[&format!("process {}", std::process::id())]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn doctor_accepts_a_running_monolith() {
    let process = Process::start("monolith", &[]);
    let machine = Machine { listen: process.address, ..Machine::with(&NEEDED) };
    let report = machine.doctor();
    report.succeeds();
    contains_all(report.line(&process.address.to_string()), &["serving", "by monolith"]);
}

#[test]
fn doctor_names_invalid_configuration() {
    let machine = Machine::with(&NEEDED);
    machine.file("mesh.toml", "\n[services\n");
    machine.doctor().fails_with(&["mesh.toml, line 2"]);
    machine.file("mesh.toml", "[services.catalog]\nlisten = \"here\"\n");
    machine.file("services/catalog/src/lib.rs", ".port(1)");
    machine.doctor().fails_with(&["services.catalog.listen", "here"]);
}
