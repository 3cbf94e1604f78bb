//! PgBouncer in transaction mode before a Postgres server, from the installed binary, on a free port.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::postgres::{as_nobody, hand_over};
use super::programs::{eventually, find_program, skip};

/// A running PgBouncer. It is killed when this is dropped.
pub struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts a pooler before the server at a URL, as `Postgres::database` returns it, with `sessions` for each
    /// database. Without an installed PgBouncer it prints a note and returns `None`.
    pub fn start(server: &str, sessions: u32) -> Option<Self> {
        let Some(program) = find_program("pgbouncer", &[PathBuf::from("/usr/sbin")]) else {
            skip("PgBouncer", "`scripts/tools pgbouncer` installs it");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let (_, server) = server.split_once('@').expect("a URL with a user");
        let server_port = server.split(['/', ':']).nth(1).expect("a URL with a port");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let users = folder.path().join("users");
        std::fs::write(&users, "\"postgres\" \"\"\n").expect("a file");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\npool_mode = transaction\nauth_type = trust\n\
             auth_file = {}\ndefault_pool_size = {sessions}\nmax_client_conn = 500\n",
            users.display()
        );
        let path = folder.path().join("pgbouncer.ini");
        std::fs::write(&path, settings).expect("a file");
        hand_over(folder.path());
        let mut command = as_nobody(&program);
        command.arg(&path).stdin(Stdio::null()).stdout(Stdio::null());
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = command.stderr(log).spawn().expect("PgBouncer starts");
        let pooler = Self { child, port, _folder: folder };
        eventually("PgBouncer accepts connections", || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(pooler)
    }

    /// The URL of a database through the pooler.
    pub fn through(&self, url: &str) -> String {
        let (head, path) = url.rsplit_once('/').expect("a URL with a database");
        let (user, _) = head.rsplit_once('@').expect("a URL with a user");
        format!("{user}@127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
