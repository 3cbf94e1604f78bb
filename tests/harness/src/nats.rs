//! A NATS server that a test starts and stops.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::{eventually, find_program, skip_foreign};

/// A running server with JetStream, whose store is in a temporary folder. It is killed when this is dropped.
pub struct Nats {
    child: Child,
    /// The address for clients.
    pub address: SocketAddr,
    folder: TempDir,
}

impl Nats {
    /// Starts a server. Without an installed one it prints a note and returns `None`.
    pub fn start() -> Option<Self> {
        if find_program("nats-server", &[]).is_none() {
            skip_foreign("NATS", "`scripts/tools nats` installs it");
            return None;
        }
        // Another process may take a free port before the server binds it.
        (0..5).find_map(|_| Self::start_at(free_address())).or_else(|| panic!("no NATS server starts"))
    }

    /// Starts a server at a given address, for tests whose processes look for it before it runs.
    pub fn start_at(address: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self { child: spawn(address, folder.path()), address, folder };
        server.answers().then_some(server)
    }

    /// The value of the configuration key `nats.url` for this server.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Kills the server without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child");
        self.child.wait().expect("a child");
    }

    /// Starts the server again, at the same address with the same store.
    pub fn restart(&mut self) {
        self.child = spawn(self.address, self.folder.path());
        assert!(self.answers(), "the server does not start again");
    }

    /// Empties the store of a killed server, as the loss of its disk does.
    pub fn empty(&self) {
        std::fs::remove_dir_all(self.store()).expect("a store");
    }

    /// Copies the store of a killed server.
    pub fn save(&self) {
        copy(&self.store(), &self.saved());
    }

    /// Puts the copy back, as a power cut does with what was not flushed.
    pub fn restore(&self) {
        self.empty();
        copy(&self.saved(), &self.store());
    }

    /// Sends a signal by name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("jetstream")
    }

    fn saved(&self) -> PathBuf {
        self.folder.path().join("saved")
    }

    /// Waits until the server greets a client; `false` if it exits instead.
    fn answers(&mut self) -> bool {
        eventually("NATS answers", || {
            if self.child.try_wait().expect("a child").is_some() {
                return Some(false);
            }
            let mut stream = TcpStream::connect(self.address).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
            let mut greeting = [0; 4];
            stream.read_exact(&mut greeting).ok()?;
            (&greeting == b"INFO").then_some(true)
        })
    }
}

/// An address on which no server listens yet.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn spawn(address: SocketAddr, folder: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).expect("a log");
    let mut command = Command::new(find_program("nats-server", &[]).expect("NATS"));
    command.args(["--jetstream", "--addr", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.arg("--store_dir").arg(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect("NATS starts")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
