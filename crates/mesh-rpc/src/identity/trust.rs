//! The trust in the peer of a connection, which may end before the connection does: an authority leaves the bundle.

use std::future::pending;

use rustls::pki_types::CertificateDer;

use super::source::Source;

/// A peer that was trusted in its handshake.
#[derive(Debug)]
pub(crate) struct Trust {
    source: Source,
    chain: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// A peer with this certificate, and its issuers behind it. `source` has the authorities.
    pub(crate) fn of(source: Source, chain: &[CertificateDer<'_>]) -> Self {
        Self { source, chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect() }
    }

    /// Waits until new authorities are in use that have not signed the certificate of the peer.
    async fn lost(&self) {
        self.source.until(|current| current.check_chain(&self.chain).is_err()).await;
    }
}

/// Waits until the trust in a peer is lost; forever in one without a certificate.
pub(crate) async fn lost(trust: Option<&Trust>) {
    match trust {
        Some(trust) => trust.lost().await,
        None => pending().await,
    }
}
