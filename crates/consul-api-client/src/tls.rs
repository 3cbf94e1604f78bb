//! Connects over https with rustls.

use std::error::Error as StdError;
use std::path::Path;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::builder::Builder;
use crate::error::Error;

/// Connects over http and https.
pub(crate) type Connector = HttpsConnector<HttpConnector>;

pub(crate) fn connector(mut http: HttpConnector, builder: &Builder) -> Result<Connector, Error> {
    http.enforce_http(false);
    let config = config(builder)?;
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(http))
}

fn config(builder: &Builder) -> Result<ClientConfig, Error> {
    let roots = match &builder.ca_file {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, error))?;
            }
            roots
        }
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
    };
    // An explicit provider: a process that links several has no default one.
    let provider = rustls::crypto::ring::default_provider().into();
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Configuration(error.to_string()))?
        .with_root_certificates(roots);
    match &builder.identity {
        Some((certificate, key)) => {
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
            let config = config.with_client_auth_cert(certificates(certificate)?, private);
            config.map_err(|error| unusable(certificate, error))
        }
        None => Ok(config.with_no_client_auth()),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, error))?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(|error| unusable(path, error))?;
    if certificates.is_empty() { Err(unusable(path, "the file contains no certificate")) } else { Ok(certificates) }
}

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Configuration(format!("cannot use {} for TLS: {why}", path.display()))
}

/// Whether rustls caused an error.
pub(crate) fn caused(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // `io::Error::source` skips the wrapped error and returns that error's source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
