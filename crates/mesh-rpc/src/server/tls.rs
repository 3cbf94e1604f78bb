//! TLS of a listener, from PEM files that may be replaced while the process runs.
//!
//! Guarantees:
//! - TLS 1.3 and 1.2, and ALPN for HTTP/2 and HTTP/1.1.
//! - A new certificate is in use [`POLL`] after its files were written, at the latest. Open connections keep theirs.
//! - Files that cannot be used leave the certificate in use, with one warning.
//!
//! Does not: ask clients for certificates.
//!
//! See: decision 0033.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::identity::{Contents, Mistake};
use crate::reread::reread;

/// The interval at which the files are read again.
const POLL: Duration = Duration::from_secs(2);

/// The first byte of a TLS connection, see [RFC 8446](https://www.rfc-editor.org/rfc/rfc8446#section-5.1).
const HANDSHAKE: u8 = 22;

/// The answer to a client without TLS.
const NEEDS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    connection: close\r\ncontent-length: 35\r\n\r\nThis port speaks TLS: use https://\n";
/// What is read of such a client at once, and at most.
const PLAIN_READ: usize = 4 * 1024;
const PLAIN_REQUEST: u64 = 64 * 1024;
/// How long such a client may take to read the answer and to leave.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The TLS of a listener. Cheap to clone; the clones share the certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

impl Tls {
    /// The file of the certificate.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// Reads a certificate, with its issuers behind it, and its private key from two files, or from one that has both.
    ///
    /// # Errors
    ///
    /// The mistakes of both files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, Vec<Mistake>> {
        let provider = Arc::new(ring::default_provider());
        let contents = Contents::read(certificate, key)?;
        let certified = contents.certified(&provider, certificate, key)?;
        let current = Arc::new(Current { in_use: RwLock::new(Arc::new(certified)), read: RwLock::new(contents) });
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config
            .expect("ring has ciphers for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), config: Arc::new(config), current })
    }

    /// Reads the files again and again, and uses what is new. Never returns.
    pub async fn renew(self) {
        reread(POLL, "certificate and its key", move || self.read_again()).await;
    }

    fn read_again(&self) -> Result<(), String> {
        let joined = |mistakes: Vec<Mistake>| mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("; ");
        let contents = Contents::read(&self.certificate, &self.key).map_err(joined)?;
        if contents == *self.current.read.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(());
        }
        let certified =
            contents.certified(self.config.crypto_provider(), &self.certificate, &self.key).map_err(joined)?;
        *self.current.read.write().unwrap_or_else(PoisonError::into_inner) = contents;
        *self.current.in_use.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
        tracing::info!(file = %self.certificate.display(), "the new certificate is in use");
        Ok(())
    }

    /// What connections get.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

/// Completes the handshake.
///
/// # Errors
///
/// The client does not speak TLS, which it is answered; it has no protocol or version of TLS in common; its certificate
/// is refused; it went away.
pub(super) async fn accept(config: Arc<ServerConfig>, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [HANDSHAKE];
    stream.peek(&mut first).await?;
    if first != [HANDSHAKE] {
        let _ = timeout(PLAIN_TIMEOUT, refuse_plaintext(stream)).await;
        return Err(io::Error::new(ErrorKind::InvalidData, "the client does not speak TLS"));
    }
    TlsAcceptor::from(config).accept(stream).await
}

/// Answers a client without TLS, and waits until it leaves: unread bytes would reset the connection before the client
/// has read the answer, and it would not know whether its request was processed.
async fn refuse_plaintext(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = [0; PLAIN_READ];
    let _ = stream.read(&mut bytes).await?;
    stream.write_all(NEEDS_TLS).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(PLAIN_REQUEST);
    while rest.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// The certificate that connections get.
#[derive(Debug)]
struct Current {
    in_use: RwLock<Arc<CertifiedKey>>,
    /// The contents of its files.
    read: RwLock<Contents>,
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.in_use.read().unwrap_or_else(PoisonError::into_inner)))
    }
}
