//! What `mesh` shows of itself to the processes that it asks: a certificate, and the token of a user.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, bail};
use hyper_util::rt::TokioIo;
use mesh_client::{Bearer, WithToken};
use mesh_rpc::identity::{Identities, Snapshot, Source};
use mesh_token::development::FOLDER;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Endpoint, Uri};

use crate::ca;

/// A connection that sends the token with each call.
pub(crate) type Channel = WithToken<tonic::transport::Channel>;

static CREDENTIALS: OnceLock<Credentials> = OnceLock::new();

/// The credentials of this run.
struct Credentials {
    /// `None`: plaintext.
    certificates: Option<Arc<Snapshot>>,
    bearer: Bearer,
}

/// Whether TLS is asked for: by the option, or by the variable that services read.
pub(crate) fn wants_tls(option: bool) -> bool {
    option || std::env::var("MESH__TLS__MODE").is_ok_and(|mode| mode == "mutual")
}

/// Reads the certificate, if TLS is asked for, and the token.
pub(crate) fn read(tls: bool) -> anyhow::Result<()> {
    let certificates = if tls { Some(certificates()?) } else { None };
    let bearer = Bearer::from_env().map_err(anyhow::Error::msg)?;
    // It is called once.
    let _ = CREDENTIALS.set(Credentials { certificates, bearer });
    Ok(())
}

fn certificates() -> anyhow::Result<Arc<Snapshot>> {
    let file = |variable: &str, name: &str| {
        std::env::var_os(variable).map_or_else(|| PathBuf::from(FOLDER).join(name), PathBuf::from)
    };
    let identities = Identities {
        certificate: file("MESH__IDENTITY__CERTIFICATE", "{service}.pem"),
        key: file("MESH__IDENTITY__KEY", "{service}.key"),
        bundle: file("MESH__IDENTITY__BUNDLE", "ca.pem"),
    };
    match Source::read(&identities, &[ca::OWN]) {
        Ok(source) => Ok(source.current()),
        Err(mistakes) => bail!("no certificate for TLS: {mistakes}; `mesh ca` and `mesh up --tls` write one"),
    }
}

/// Connects to a process. `service` is one that the process must have the certificate of; without it, any service of
/// the trust domain may answer.
pub(crate) async fn connect(endpoint: Endpoint, service: Option<&str>) -> anyhow::Result<Channel> {
    let credentials = CREDENTIALS.get().context("the credentials have not been read")?;
    let channel = match connector(credentials, service)? {
        None => endpoint.connect().await?,
        Some(connector) => endpoint.connect_with_connector(connector).await?,
    };
    Ok(credentials.bearer.over(channel))
}

/// As [`connect`], with the first call.
pub(crate) fn lazily(endpoint: Endpoint, service: Option<&str>) -> anyhow::Result<Channel> {
    let credentials = CREDENTIALS.get().context("the credentials have not been read")?;
    let channel = match connector(credentials, service)? {
        None => endpoint.connect_lazy(),
        Some(connector) => endpoint.connect_with_connector_lazy(connector),
    };
    Ok(credentials.bearer.over(channel))
}

/// Opens connections by TLS; `None` if they are without.
fn connector(
    credentials: &Credentials,
    service: Option<&str>,
) -> anyhow::Result<
    Option<
        impl tower::Service<Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send>
        + Clone
        + Send
        + 'static,
    >,
> {
    let Some(certificates) = &credentials.certificates else { return Ok(None) };
    let config = Arc::new(match service {
        Some(service) => certificates.client(service),
        None => certificates.client_of_any(),
    });
    let name = ServerName::try_from(service.unwrap_or(ca::OWN).to_owned())?;
    Ok(Some(tower::service_fn(move |uri: Uri| {
        let (connector, name) = (TlsConnector::from(Arc::clone(&config)), name.clone());
        async move {
            let authority = uri.authority().ok_or(io::ErrorKind::InvalidInput)?;
            let stream = TcpStream::connect(authority.as_str()).await?;
            connector.connect(name, stream).await.map(TokioIo::new)
        }
    })))
}

/// Whether processes are asked with a certificate.
pub(crate) fn are_shown() -> bool {
    CREDENTIALS.get().is_some_and(|credentials| credentials.certificates.is_some())
}

/// Whether `mesh` shows a certificate or a token.
pub(crate) fn are_shown_at_all() -> bool {
    CREDENTIALS.get().is_some_and(|it| it.certificates.is_some() || it.bearer.has_token())
}

/// Whether processes take `mesh` for a service, and not for a user.
pub(crate) fn are_of_mesh() -> bool {
    CREDENTIALS.get().is_some_and(|credentials| credentials.certificates.is_some() && !credentials.bearer.has_token())
}

/// What may help if a process does not answer.
pub(crate) fn hint() -> &'static str {
    if are_shown() { "" } else { "; if it speaks TLS, add --tls" }
}
