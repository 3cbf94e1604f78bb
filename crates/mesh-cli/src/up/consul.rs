//! Prepares a Consul agent for development: without peers, in memory, on 127.0.0.1 only.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::programs::{self, Version};

/// The program, the ports and the name of an agent that is not started yet.
pub(super) struct Agent {
    program: PathBuf,
    pub(super) address: SocketAddr,
    /// The name of its node, unique on this machine.
    pub(super) node: String,
    serf: u16,
    server: u16,
}

impl Agent {
    /// Finds the program and the ports. The HTTP API gets `port`, or a free one if that is 0; the others get free ones.
    pub(super) fn prepare(port: u16) -> anyhow::Result<Self> {
        let program =
            programs::find("consul", []).context("Consul is not installed: install it with `scripts/tools consul`")?;
        let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let http = free(port).with_context(|| {
            format!(
                "cannot listen on 127.0.0.1:{port}: end the process that listens there, or pass another --consul-port"
            )
        })?;
        // All listeners stay open until all ports are known, so the ports differ.
        let (serf, server) = (free(0)?, free(0)?);
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        let node = format!("up-{}", std::process::id());
        Ok(Self { program, address: http.local_addr()?, node, serf: port(&serf)?, server: port(&server)? })
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=err"]);
        command.args(["-dns-port=-1", "-grpc-port=-1", "-serf-wan-port=-1"]);
        // Consul 1.14 opens one more port; older versions reject the option.
        if Version::of(&self.program, "version") >= Some([1, 14].into()) {
            command.arg("-grpc-tls-port=-1");
        }
        command.arg(format!("-node={}", self.node));
        command.arg(format!("-http-port={}", self.address.port()));
        command.arg(format!("-serf-lan-port={}", self.serf)).arg(format!("-server-port={}", self.server));
        command
    }
}
