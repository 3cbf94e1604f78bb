//! An agent of Consul for development: alone, in memory, on this machine only.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::programs::{self, Version};

/// An agent that is not started yet.
pub(super) struct Agent {
    program: PathBuf,
    pub(super) address: SocketAddr,
    /// What it calls itself, unlike any other on this machine.
    pub(super) node: String,
    serf: u16,
    server: u16,
}

impl Agent {
    /// Finds the program, and ports: its HTTP API gets `port`, or a free one if that is 0; the others, which nobody has
    /// to know, get free ones.
    pub(super) fn prepare(port: u16) -> anyhow::Result<Self> {
        let program =
            programs::find("consul", []).context("Consul is not installed: `scripts/tools consul` brings it")?;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let http = free(port).with_context(|| {
            format!(
                "cannot listen on 127.0.0.1:{port}: end what has it, or give Consul another port with --consul-port"
            )
        })?;
        // All of them are held until all are known, so that they differ.
        let (serf, server) = (free(0)?, free(0)?);
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        let node = format!("up-{}", std::process::id());
        Ok(Self { program, address: http.local_addr()?, node, serf: port(&serf)?, server: port(&server)? })
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=err"]);
        command.args(["-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1"]);
        // From 1.14 on an agent opens one more port, and before that it refuses to hear of it.
        if Version::of(&self.program, "version") >= Some([1, 14].into()) {
            command.arg("-grpc-tls-port=-1");
        }
        command.arg(format!("-node={}", self.node));
        command.arg(format!("-http-port={}", self.address.port()));
        command.arg(format!("-serf-lan-port={}", self.serf)).arg(format!("-server-port={}", self.server));
        command
    }
}
