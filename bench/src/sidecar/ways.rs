//! The ways to the service: without anything between, through sidecars, and through Envoys.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::envoys;
use crate::edge::gateway::contracts;

/// The name of the service: the host of its calls.
const SERVICE: &str = "bench";
/// The name of the service that calls it, in a pair.
const CALLER: &str = "caller";

/// A way to the service. Its programs are killed when this is dropped.
pub(super) struct Way {
    pub(super) address: SocketAddr,
    programs: Vec<Box<dyn Program>>,
    _folder: Option<TempDir>,
}

/// A running program.
trait Program: Send {
    fn id(&self) -> u32;
}

impl Program for crate::envoy::Envoy {
    fn id(&self) -> u32 {
        Self::id(self)
    }
}

impl Way {
    /// Without anything between.
    pub(super) fn direct(service: SocketAddr) -> Self {
        Self { address: service, programs: Vec::new(), _folder: None }
    }

    /// Through the inbound side of a sidecar.
    pub(super) fn sidecar(service: SocketAddr) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let sidecar = Sidecar::start(folder.path(), SERVICE, service, &[])?;
        Ok(Self { address: sidecar.inbound, programs: vec![Box::new(sidecar)], _folder: Some(folder) })
    }

    /// Through the outbound side of a sidecar, and by mutual TLS through the inbound side of another. Both ask who
    /// calls.
    pub(super) fn sidecars(service: SocketAddr) -> anyhow::Result<Self> {
        let folder = certificates()?;
        let file = |name: &str| folder.path().join(".mesh/ca").join(name).display().to_string();
        let secured = [
            "tls.mode=mutual".to_owned(),
            format!("identity.certificate={}", file("{service}.pem")),
            format!("identity.key={}", file("{service}.key")),
            format!("identity.bundle={}", file("ca.pem")),
            "auth.mode=required".to_owned(),
        ];
        let inbound = Sidecar::start(folder.path(), SERVICE, service, &secured)?;
        let more = [format!("static.{SERVICE}={}", inbound.inbound), "sidecar.protocol=http1".to_owned()];
        let outbound = Sidecar::start(folder.path(), CALLER, service, &[&secured[..], &more].concat())?;
        Ok(Self {
            address: outbound.outbound,
            programs: vec![Box::new(outbound), Box::new(inbound)],
            _folder: Some(folder),
        })
    }

    /// Through Envoy.
    pub(super) async fn envoy(service: SocketAddr) -> anyhow::Result<Self> {
        let envoy = envoys::plaintext(service).await?;
        Ok(Self { address: envoy.address, programs: vec![Box::new(envoy)], _folder: None })
    }

    /// Through Envoy, and by mutual TLS through another.
    pub(super) async fn envoys(service: SocketAddr) -> anyhow::Result<Self> {
        let folder = certificates()?;
        let (ca, service_name, caller) = (folder.path().join(".mesh/ca"), SERVICE, CALLER);
        let inbound = envoys::server(service, &ca, service_name).await?;
        let outbound = envoys::client(inbound.address, &ca, caller).await?;
        Ok(Self {
            address: outbound.address,
            programs: vec![Box::new(outbound), Box::new(inbound)],
            _folder: Some(folder),
        })
    }

    /// The ids of its processes.
    pub(super) fn processes(&self) -> Vec<u32> {
        self.programs.iter().map(|program| program.id()).collect()
    }
}

/// A folder with certificates of both services, by `mesh ca`.
fn certificates() -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    // It marks the folder of a project.
    std::fs::write(folder.path().join("mesh.toml"), "")?;
    for arguments in [&["ca", SERVICE, CALLER][..], &["token", "--sub", "nobody"]] {
        let written = Command::new(beside("mesh")?).args(arguments).current_dir(folder.path()).output()?;
        ensure!(written.status.success(), "mesh {arguments:?}: {}", String::from_utf8_lossy(&written.stderr));
    }
    Ok(folder)
}

/// A program that this program's build has left beside it.
fn beside(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let program = std::env::current_exe()?.with_file_name(name).with_extension(std::env::consts::EXE_EXTENSION);
    ensure!(
        program.is_file(),
        "`{name}` is not built: cargo build --profile bench-run --workspace --bins (or without --profile, for --quick)"
    );
    Ok(program)
}

struct Sidecar {
    child: Child,
    inbound: SocketAddr,
    outbound: SocketAddr,
}

impl Sidecar {
    fn start(folder: &Path, service: &str, app: SocketAddr, more: &[String]) -> anyhow::Result<Self> {
        let set = folder.join("contracts.binpb");
        std::fs::write(&set, contracts())?;
        let own = [
            format!("sidecar.service={service}"),
            format!("sidecar.app={app}"),
            format!("sidecar.contracts={}", set.display()),
            "sidecar.outbound=127.0.0.1:0".to_owned(),
            "sidecar.health=tcp".to_owned(),
            "registry=static".to_owned(),
            "log.level=warn".to_owned(),
        ];
        let mut command = Command::new(beside("sidecar")?);
        command.current_dir(folder).arg("--listen=127.0.0.1:0");
        command.args(own.iter().chain(more).flat_map(|key| ["--set", key]));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a child has an output")?).lines();
        let mut address = |what: &str| -> anyhow::Result<SocketAddr> {
            let line = lines.next().context("the sidecar does not start")??;
            let (name, address) = line.split_once(" listening on ").context("no listener")?;
            ensure!(name == what, "{line}");
            Ok(address.parse()?)
        };
        let (outbound, inbound) = (address(&format!("{service} outbound"))?, address(service)?);
        // Nobody reads the rest, which is one line.
        Ok(Self { child, inbound, outbound })
    }
}

impl Program for Sidecar {
    fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
