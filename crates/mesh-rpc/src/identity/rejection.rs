//! Why a handshake of TLS with a client failed, for logs and metrics.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, ErrorKind};

use rustls::{CertificateError, Error, OtherError};

use super::spiffe::SpiffeId;

/// The certificate of a peer does not have exactly one URI, a SPIFFE ID.
#[derive(thiserror::Error)]
#[error("the certificate of the peer {0}")]
pub(super) struct NoId(pub(super) String);

/// The ID of a peer is of another trust domain.
#[derive(thiserror::Error)]
#[error("{0} is not of the trust domain {1}")]
pub(super) struct OtherDomain(pub(super) SpiffeId, pub(super) String);

/// rustls shows the errors of others by `Debug`, also in a log.
macro_rules! debug_by_display {
    ($($type:ty),*) => {
        $(impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        })*
    };
}

debug_by_display!(NoId, OtherDomain);

tokio::task_local! {
    /// The ID in the certificate that the client shows, whether it is valid or not.
    static CLAIMED: RefCell<Option<String>>;
}

/// Runs a handshake. Returns the ID that the client has claimed, too.
pub(crate) async fn with_claim<T>(handshake: impl Future<Output = T>) -> (T, Option<String>) {
    CLAIMED
        .scope(RefCell::new(None), async move {
            let done = handshake.await;
            (done, CLAIMED.with(RefCell::take))
        })
        .await
}

/// Keeps the ID that a client claims, if its handshake runs in [`with_claim`].
pub(super) fn claimed(id: String) {
    let _ = CLAIMED.try_with(|claimed| claimed.replace(Some(id)));
}

/// The reason of a failed handshake, as metrics have it; `None` for a client that went away, which a probe does.
pub(crate) fn reason(error: &io::Error) -> Option<&'static str> {
    let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<Error>()) else {
        return (error.kind() == ErrorKind::InvalidData).then_some("NO_TLS");
    };
    Some(match error {
        Error::NoCertificatesPresented => "NO_CERTIFICATE",
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "NO_COMMON_PROTOCOL",
        // The client refuses the certificate of the server, for example.
        Error::AlertReceived(_) => "ALERT",
        _ => "INVALID_HANDSHAKE",
    })
}

fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "EXPIRED",
        // A foreign authority with the name of a trusted one has another signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "UNKNOWN_AUTHORITY",
        CertificateError::Other(OtherError(why)) if why.is::<OtherDomain>() => "OTHER_TRUST_DOMAIN",
        CertificateError::Other(OtherError(why)) if why.is::<NoId>() => "NO_SPIFFE_ID",
        // The leaf in the place of an authority is among them.
        _ => "INVALID_CERTIFICATE",
    }
}
