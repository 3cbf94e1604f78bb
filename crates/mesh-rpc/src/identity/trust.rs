//! The trust in the peer of a connection, which may end before the connection does: an authority leaves the bundle.

use std::future::pending;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::snapshot::Snapshot;
use super::source::Source;

/// A peer that was trusted in its handshake.
#[derive(Debug)]
pub(crate) struct Trust {
    source: Source,
    /// What the handshake has checked the peer by.
    checked: Arc<Snapshot>,
    chain: Vec<CertificateDer<'static>>,
}

impl Trust {
    /// A peer with this certificate, and its issuers behind it. `source` has the authorities; those of `checked` were
    /// in use in the handshake.
    pub(crate) fn of(source: Source, checked: Arc<Snapshot>, chain: &[CertificateDer<'_>]) -> Self {
        Self { source, checked, chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect() }
    }

    /// Waits until new authorities are in use that have not signed the certificate of the peer.
    async fn lost(&self) {
        let is_new = |current: &Arc<Snapshot>| !Arc::ptr_eq(current, &self.checked);
        self.source.until(|current| is_new(current) && current.check_chain(&self.chain).is_err()).await;
    }
}

/// Waits until the trust in a peer is lost; forever in one without a certificate.
pub(crate) async fn lost(trust: Option<&Trust>) {
    match trust {
        Some(trust) => trust.lost().await,
        None => pending().await,
    }
}
