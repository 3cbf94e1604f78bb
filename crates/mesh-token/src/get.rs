//! One GET by HTTP/1.1, without redirects, on a connection of its own: it happens once in minutes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::url::Url;

/// The body of the answer.
///
/// # Errors
///
/// Why there is none, or not one that may be used. It has the address.
pub(crate) async fn get(url: &Url, roots: Option<PathBuf>, limit: usize) -> Result<Vec<u8>, String> {
    let address = &url.0;
    let host = address.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_tls = address.scheme_str() == Some("https");
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{address} {what}: {error}");

    let port = address.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.map_err(|error| failed("cannot be reached", &error))?;
    if !is_tls {
        return exchange(TokioIo::new(stream), url, limit).await.map_err(|why| format!("{address} {why}"));
    }
    let config = config(roots.as_deref()).map_err(|error| failed("cannot be asked by TLS", &error))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed("cannot be asked by TLS", &error))?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| failed("cannot be trusted", &error))?;
    exchange(TokioIo::new(stream), url, limit).await.map_err(|why| format!("{address} {why}"))
}

async fn exchange<S: Read + Write + Unpin>(stream: S, url: &Url, limit: usize) -> Result<Vec<u8>, String> {
    let path = url.0.path_and_query().map_or("/", |path| path.as_str());
    let host = url.0.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "mesh")
        .body(String::new())
        .map_err(|error| error.to_string())?;
    let broken = |error: hyper::Error| format!("has not answered: {error}");
    let (mut sender, connection) = http1::handshake(stream).await.map_err(broken)?;
    // The connection ends with its sender.
    let answer = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!("answers {status}: redirects are not followed, so configure their target"));
            }
            status => return Err(format!("answers {status}, not 200")),
        }
        let body = Limited::new(response.into_body(), limit).collect().await;
        body.map(|body| body.to_bytes().to_vec()).map_err(|error| format!("has sent no usable answer: {error}"))
    };
    tokio::join!(answer, connection).0
}

fn config(roots: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match roots {
        Some(path) => authorities(path)?,
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
    };
    // An explicit provider: a process that links several has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The authorities of a file, which is read each time: it may be replaced.
pub(crate) fn authorities(path: &Path) -> Result<RootCertStore, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("{} cannot be used: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() { Err(unusable(&"it has no certificate")) } else { Ok(roots) }
}

#[cfg(test)]
mod tests;
