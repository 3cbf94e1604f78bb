//! A mesh with mutual TLS and `auth.mode = "required"`, and clients that it lets in.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Authority, Consul, Grpcurl, Process, command};

/// The service that clients by grpcurl have a certificate of.
const CLIENT: &str = "client";

/// The certificates of a mesh, the issuer of its tokens, and the settings of its processes.
pub struct Secured {
    /// The folder of the certificates and of the issuer's key.
    pub folder: TempDir,
    /// The authority of the certificates.
    pub authority: Authority,
    settings: Vec<(&'static str, String)>,
}

impl Secured {
    /// A mesh of these services.
    pub fn new(services: &[&str]) -> Self {
        let (folder, authority) = (tempfile::tempdir().expect("a temporary folder"), Authority::new());
        authority.write(folder.path(), services);
        authority.write(folder.path(), &[CLIENT]);
        // It creates the issuer.
        token(folder.path(), "nobody", &[], "1h");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let settings = vec![
            ("MESH__TLS__MODE", "mutual".to_owned()),
            ("MESH__IDENTITY__CERTIFICATE", file("{service}.pem")),
            ("MESH__IDENTITY__KEY", file("{service}.key")),
            ("MESH__IDENTITY__BUNDLE", file("ca.pem")),
            ("MESH__AUTH__MODE", "required".to_owned()),
            ("MESH__AUTH__ISSUERS", format!("https://issuer.dev.mesh mesh {}", file(".mesh/ca/issuer.json"))),
        ];
        Self { folder, authority, settings }
    }

    /// Starts a process of the mesh, with more of a configuration.
    pub fn start(&self, binary: &str, more: &[(&str, &str)]) -> Process {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Process::start(binary, &[&settings[..], more].concat())
    }

    /// Starts a sidecar of the mesh, as [`Process::start_sidecar`] does.
    pub fn start_sidecar(&self, service: &str, more: &[(&str, &str)], app: Option<&str>) -> Process {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Process::start_sidecar(service, &[&settings[..], more].concat(), app)
    }

    /// The command of a process of the mesh.
    pub fn command(&self, binary: &str) -> Command {
        let mut command = command(binary);
        command.envs(self.settings.iter().map(|(name, value)| (*name, value.as_str())));
        command
    }

    /// Starts a process of the mesh that has a certificate, and asks nobody who calls.
    pub fn start_open(&self, binary: &str, more: &[(&str, &str)]) -> Process {
        let settings = self.settings.iter().map(|(name, value)| (*name, value.as_str()));
        let settings: Vec<_> = settings.filter(|(name, _)| !name.starts_with("MESH__AUTH__")).collect();
        Process::start(binary, &[&settings[..], more].concat())
    }

    /// Starts a process of the mesh that finds its peers in Consul.
    pub fn start_in_consul(&self, binary: &str, consul: &Consul) -> Process {
        // Consul has no certificate, and checks health at the admin listener.
        self.start(binary, &[("MESH__REGISTRY", &consul.registry()), ("MESH__ADMIN__LISTEN", "127.0.0.1:0")])
    }

    /// A token of a user, for an hour.
    pub fn token(&self, subject: &str, scopes: &[&str]) -> String {
        token(self.folder.path(), subject, scopes, "1h")
    }

    /// grpcurl for a process of the mesh, with a certificate of the mesh and the token of a user.
    pub fn grpcurl(&self, process: &Process, token: &str) -> Grpcurl {
        let file = |name: &str| self.folder.path().join(format!("{CLIENT}.{name}"));
        Grpcurl::secured(process.address, &file("pem"), &file("key"), token)
    }
}

/// A token of the issuer of development in a folder, which `mesh token` creates there.
pub fn token(folder: &Path, subject: &str, scopes: &[&str], lifetime: &str) -> String {
    // It marks the folder of a project.
    std::fs::write(folder.join("mesh.toml"), "").expect("a folder");
    let mut mesh = command("mesh");
    mesh.current_dir(folder).args(["token", "--sub", subject, "--for", lifetime]);
    mesh.args(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let output = mesh.output().expect("mesh runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("ASCII").trim().to_owned()
}
