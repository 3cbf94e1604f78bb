//! A mesh with certificates, and its servers in processes of their own.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use harness::Authority;
use mesh::testing::Mesh;
use mesh_rpc::identity::{Identities, Mode, Source, Transport};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::calls::peer::service;
use crate::server::{Server, until_its_input_ends};

/// The service, whose server has its certificate.
pub(super) const SERVICE: &str = "bench";
/// The service that calls.
pub(super) const CLIENT: &str = "client";
/// What a client begins with: the preface of HTTP/2, and no settings.
pub(super) const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// No settings.
pub(super) const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// The server of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// A process of mesh with mutual TLS.
    Mesh,
    /// A listener of tokio-rustls with the same certificates.
    Rustls,
}

/// The folder of an authority, with the certificates of both services.
pub(super) struct Site(TempDir);

impl Site {
    pub(super) fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        Authority::new().write(folder.path(), &[SERVICE, CLIENT]);
        Ok(Self(folder))
    }

    pub(super) fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Starts the server of a side in another process, which runs this program.
    pub(super) async fn server(&self, side: Side) -> anyhow::Result<Server> {
        let side = if side == Side::Mesh { "mesh" } else { "rustls" };
        let folder = self.folder().to_owned();
        let run = move || Server::run([OsStr::new("serve-secured"), OsStr::new(side), folder.as_ref()]);
        tokio::task::spawn_blocking(run).await?
    }

    /// The certificate of a service.
    pub(super) fn source(&self, service: &'static str) -> anyhow::Result<Source> {
        let file = |name: &str| self.folder().join(name);
        let (certificate, key) = (file("{service}.pem"), file("{service}.key"));
        let identities = Identities { certificate, key, bundle: file("ca.pem") };
        Source::read(&identities, &[service]).map_err(|mistakes| anyhow::anyhow!("{mistakes}"))
    }

    /// Mutual TLS of the service that calls.
    pub(super) fn transport(&self) -> anyhow::Result<Transport> {
        Ok(Transport { mode: Mode::Mutual, source: Some(self.source(CLIENT)?) })
    }
}

impl Side {
    /// Serves in that other process.
    pub(crate) async fn serve(self, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Mesh => {
                mesh::testing::log();
                let key = |key: &str, name: &str| format!("{key}={}", folder.join(name).display());
                let settings = [
                    "tls.mode=mutual".to_owned(),
                    key("identity.certificate", "{service}.pem"),
                    key("identity.key", "{service}.key"),
                    key("identity.bundle", "ca.pem"),
                ];
                let mesh = Mesh::start_in(tempfile::tempdir()?, &settings, service()).await;
                writeln!(std::io::stdout(), "{}", mesh.url())?;
                until_its_input_ends().await
            }
            Self::Rustls => {
                let acceptor = TlsAcceptor::from(Arc::new(config(folder)?));
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
                tokio::select! {
                    ended = accept(listener, acceptor) => ended,
                    ended = until_its_input_ends() => ended,
                }
            }
        }
    }
}

/// Answers the beginning of HTTP/2, and nothing else.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let accepting = acceptor.accept(stream);
        tokio::spawn(async move {
            let mut stream = accepting.await?;
            stream.read_exact(&mut [0; BEGIN.len()]).await?;
            stream.write_all(SETTINGS).await?;
            stream.flush().await?;
            // Until the client closes.
            stream.read(&mut [0; 64]).await
        });
    }
}

/// The same protocol as that of mesh: TLS 1.3 with a certificate of the client, and sessions that are not resumed.
fn config(folder: &Path) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem"))?)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let certificate = CertificateDer::from_pem_file(folder.join(format!("{SERVICE}.pem")))?;
    let key = PrivateKeyDer::from_pem_file(folder.join(format!("{SERVICE}.key"))).context("a key")?;
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?;
    let mut config = config.with_client_cert_verifier(clients).with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
