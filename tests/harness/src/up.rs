//! `mesh up`, which scripts/up calls: every service in a process of its own, found through a Consul agent.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use tempfile::TempDir;

use super::{LIMIT, command, eventually, root};

/// A running `mesh up`. It gets SIGTERM when this is dropped.
pub struct Up {
    child: Child,
    /// The addresses that it printed, by name.
    pub places: BTreeMap<String, SocketAddr>,
    /// The lines of its own that it printed until all was ready.
    pub lines: Vec<String>,
    /// The project.
    pub folder: TempDir,
}

impl Up {
    /// A folder that `mesh up` takes for a project with these services.
    pub fn project(services: &[&str]) -> TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for service in services {
            std::fs::create_dir_all(folder.path().join("services").join(service)).expect("a folder");
        }
        folder
    }

    /// `mesh up` in a project, before it starts.
    pub fn command(folder: &TempDir, options: &[&str]) -> Command {
        let mut path = std::ffi::OsString::from(root().join(".tools/bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = command("mesh");
        command.arg("up").args(options).current_dir(folder.path()).env("PATH", path);
        for service in ["CATALOG", "ARTWORK"] {
            command.env(format!("MESH__SERVICES__{service}__LISTEN"), "127.0.0.1:0");
        }
        // That of the gateway.
        command.env("MESH__LISTEN", "127.0.0.1:0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it, and waits until all is ready.
    pub fn start(folder: TempDir, options: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Self::command(&folder, &[&["--consul-port=0"], options].concat());
        let mut child = command.envs(environment.iter().copied()).spawn().expect("mesh starts");
        let (sender, printed) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
        let mut up = Self { child, places: BTreeMap::new(), lines: Vec::new(), folder };
        // Its own lines have this form: `up      |   catalog  127.0.0.1:50051`.
        loop {
            let line =
                printed.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("`mesh up` does not get ready: {}", up.errors()));
            let Some(text) = line.strip_prefix("up ") else { continue };
            if text.contains("Ctrl-C") {
                return up;
            }
            if let [_, name, place] = text.split_whitespace().collect::<Vec<_>>()[..]
                && let Ok(place) = place.parse()
            {
                up.places.insert(name.to_owned(), place);
            }
            up.lines.push(text.to_owned());
        }
    }

    fn errors(&mut self) -> String {
        let _ = self.child.kill();
        let mut errors = String::new();
        let _ = self.child.stderr.take().expect("its errors").read_to_string(&mut errors);
        errors
    }

    /// Sends a signal by name: `TERM`, `INT`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }

    /// Waits until it exits; returns its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        eventually("`mesh up` exits", || self.child.try_wait().expect("a child")).code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal("TERM");
            let _ = self.child.wait();
        }
    }
}
