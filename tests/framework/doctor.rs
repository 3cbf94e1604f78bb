//! `mesh doctor`: what it says of a machine, on one that has exactly what the test gives it.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use harness::{Process, command};
use tempfile::TempDir;

/// What is needed, in versions that will do.
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

    /// A program that says its version, in a folder of the project. Written by a shell: what this process has open for
    /// writing, nobody can execute, nor can they while a child of another test has not closed it yet.
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

    fn doctor(&self) -> Said {
        let mut doctor = command("mesh");
        doctor.arg("doctor").current_dir(self.project.path()).env("PATH", self.project.path().join("bin"));
        doctor.env("MESH__LISTEN", self.listen.to_string());
        let said = doctor.stdin(Stdio::null()).output().expect("mesh runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Said { code: said.status.code(), table: text(said.stdout), complaint: text(said.stderr) }
    }
}

/// How it ended, and what it wrote.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    table: String,
    complaint: String,
}

impl Said {
    /// The line of a program or of an address.
    fn line(&self, what: &str) -> &str {
        let mut lines = self.table.lines();
        lines.find(|line| line.split(' ').next() == Some(what)).unwrap_or_else(|| panic!("no {what}: {self:?}"))
    }

    fn is_well(&self) {
        assert_eq!((self.code, &*self.complaint), (Some(0), ""), "{self:?}");
        assert!(self.table.ends_with("have all they need\n"), "{self:?}");
    }

    /// The one line that it complains in says all of `words`.
    fn complains(&self, words: &[&str]) {
        assert_eq!((self.code, self.complaint.lines().count()), (Some(1), 1), "{self:?}");
        assert!(words.iter().all(|word| self.complaint.contains(word)), "{words:?}: {self:?}");
    }
}

fn says(line: &str, words: &[&str]) {
    assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
}

#[test]
fn what_is_needed_is_enough() {
    let said = Machine::with(&NEEDED).doctor();
    said.is_well();
    says(said.line("rustc"), &["needed", "ok", "99.0.0"]);
    says(said.line("consul"), &["optional", "missing", "scripts/up", "scripts/tools consul"]);
    says(said.line("cargo-generate"), &["optional", "missing", "cargo install cargo-generate"]);
}

#[test]
fn what_is_needed_and_missing_is_named_with_what_brings_it() {
    let said = Machine::with(&NEEDED[1..]).doctor();
    said.complains(&["rustc (missing)"]);
    says(said.line("rustc"), &["needed", "missing", "rustup"]);
}

#[test]
fn what_is_too_old_is_told_with_its_version() {
    let [_, cargo, cc] = NEEDED;
    let said = Machine::with(&[("rustc", "rustc 1.70.0 (x)"), cargo, cc]).doctor();
    said.complains(&["rustc (too old)"]);
    says(said.line("rustc"), &["too old", "1.70.0", "or later: rustup update"]);

    let machine = Machine::with(&NEEDED);
    machine.install("bin", "consul", "Consul v1.7.9");
    let said = machine.doctor();
    said.is_well();
    says(said.line("consul"), &["too old", "1.7.9", "1.8 or later: remove it, then scripts/tools consul"]);
}

#[test]
fn what_scripts_tools_brought_is_found_before_path() {
    let machine = Machine::with(&NEEDED);
    machine.install("bin", "grpcurl", "grpcurl v1.0.0");
    machine.install(".tools/bin", "grpcurl", "grpcurl v1.9.1");
    says(machine.doctor().line("grpcurl"), &["ok", "1.9.1", ".tools/bin/grpcurl"]);
}

#[test]
fn a_taken_port_is_told_with_whoever_has_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let mut machine = Machine::with(&NEEDED);
    machine.file("services/catalog/src/lib.rs", "Service::new(\"catalog\").port(50051)");
    // `listen`, which this test sets, would be everybody's.
    machine.file("mesh.toml", &format!("[services.catalog]\nlisten = \"{address}\"\n"));
    let said = machine.doctor();
    said.is_well();
    says(said.line(&address.to_string()), &["optional", "taken", "catalog", "services.catalog.listen"]);

    machine.listen = address;
    let said = machine.doctor();
    said.complains(&[&format!("{address} (taken)")]);
    says(said.line(&address.to_string()), &["needed", "taken", "cargo run", "--listen"]);
    if cfg!(target_os = "linux") {
        says(said.line(&address.to_string()), &[&format!("process {}", std::process::id())]);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_monolith_that_serves_is_no_complaint() {
    let process = Process::start("monolith", &[]);
    let machine = Machine { listen: process.address, ..Machine::with(&NEEDED) };
    let said = machine.doctor();
    said.is_well();
    says(said.line(&process.address.to_string()), &["serving", "by monolith"]);
}

#[test]
fn a_configuration_that_cannot_be_read_is_named() {
    let machine = Machine::with(&NEEDED);
    machine.file("mesh.toml", "\n[services\n");
    machine.doctor().complains(&["mesh.toml, line 2"]);
    machine.file("mesh.toml", "[services.catalog]\nlisten = \"here\"\n");
    machine.file("services/catalog/src/lib.rs", ".port(1)");
    machine.doctor().complains(&["services.catalog.listen", "here"]);
}
