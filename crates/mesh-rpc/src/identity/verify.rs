//! Checks the certificate of a peer: its chain, and the SPIFFE ID in it.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};

use super::rejection::{self, NoId, OtherDomain};
use super::spiffe::SpiffeId;

/// A server has the ID of another service.
#[derive(thiserror::Error)]
#[error("{0} answers in the place of {1}")]
struct OtherService(SpiffeId, String);

impl fmt::Debug for OtherService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn refused(why: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(why))))
}

fn id_of(certificate: &CertificateDer<'_>) -> Result<SpiffeId, Error> {
    SpiffeId::of(certificate).map_err(|why| refused(NoId(why)))
}

fn check_domain(trust_domain: &str, id: SpiffeId) -> Result<(), Error> {
    if id.trust_domain() == trust_domain { Ok(()) } else { Err(refused(OtherDomain(id, trust_domain.to_owned()))) }
}

/// Checks clients: any service of the trust domain.
#[derive(Debug)]
pub(super) struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl Clients {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        trust_domain: &str,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        let chain = chain.map_err(|error| format!("cannot be used: {error}"))?;
        Ok(Self { chain, trust_domain: trust_domain.to_owned() })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let id = id_of(end_entity);
        if let Ok(id) = &id {
            rejection::claimed(id.to_string());
        }
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        check_domain(&self.trust_domain, id?)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The server that a client expects.
#[derive(Debug)]
pub(super) enum Expected {
    /// The one with this ID.
    Id(String),
    /// One of this trust domain.
    Within(String),
}

/// Checks a server: its ID must be that of the service that is called. Its names of hosts do not count.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) expected: Expected,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        let id = id_of(end_entity)?;
        match &self.expected {
            Expected::Within(trust_domain) => check_domain(trust_domain, id)?,
            Expected::Id(expected) if id.to_string() == *expected => {}
            Expected::Id(expected) => return Err(refused(OtherService(id, expected.clone()))),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
