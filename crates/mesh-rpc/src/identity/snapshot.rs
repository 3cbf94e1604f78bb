//! The certificates in use: one of each service of this process, and the bundle of the certificate authorities.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};

use super::files::Mistakes;
use super::spiffe::SpiffeId;
use super::validity::{left, not_after};
use super::verify::{Clients, Expected, Servers};

/// The certificates of a process, and the authorities that it trusts. It does not change.
#[derive(Debug)]
pub struct Snapshot {
    own: Arc<CertifiedKey>,
    /// By service.
    ends: BTreeMap<&'static str, SystemTime>,
    read: SystemTime,
    /// Of outgoing calls.
    id: SpiffeId,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    /// For the listener of the services.
    pub(crate) server: Arc<ServerConfig>,
}

/// The certificate of a service, before it is checked.
pub(super) struct Leaf {
    pub(super) service: &'static str,
    /// Its file, for errors.
    pub(super) file: String,
    pub(super) certified: CertifiedKey,
}

impl Snapshot {
    /// Checks that the certificates belong together. The first one is that of outgoing calls.
    ///
    /// # Errors
    ///
    /// A certificate has no SPIFFE ID or that of another service, has ended, or is not signed by the bundle; two are of
    /// different trust domains or paths.
    pub(super) fn check(leaves: Vec<Leaf>, bundle: &[u8], bundle_file: &str) -> Result<Self, Mistakes> {
        let provider = Arc::new(ring::default_provider());
        let mut mistakes = Mistakes::default();
        let roots = Arc::new(roots(bundle, bundle_file, &mut mistakes));
        let (mut ends, mut ids) = (BTreeMap::new(), Vec::new());
        for leaf in &leaves {
            match leaf.check(&roots, &provider) {
                Ok((id, end)) => {
                    ends.insert(leaf.service, end);
                    ids.push(id);
                }
                Err(why) => mistakes.certificate.push(format!("names a certificate that {why}: {}", leaf.file)),
            }
        }
        mistakes.finish()?;
        for (leaf, id) in leaves.iter().zip(&ids).filter(|(leaf, id)| ids[0].beside(leaf.service) != id.to_string()) {
            let expected = ids[0].beside(leaf.service);
            mistakes
                .certificate
                .push(format!("names certificates that do not fit: {id}, expected {expected}, {}", leaf.file));
        }
        mistakes.finish()?;

        let own = leaves.first().map(|leaf| Arc::new(leaf.certified.clone()));
        let own = own.ok_or_else(Mistakes::default)?;
        let id = ids.into_iter().next().ok_or_else(Mistakes::default)?;
        let named = leaves.into_iter().map(|leaf| (leaf.service, Arc::new(leaf.certified))).collect();
        let server = server(Named { named, own: Arc::clone(&own) }, &roots, id.trust_domain(), &provider);
        let server =
            server.map_err(|why| Mistakes { bundle: vec![format!("{why}: {bundle_file}")], ..Mistakes::default() })?;
        Ok(Self { own, ends, read: SystemTime::now(), id, roots, provider, server: Arc::new(server) })
    }

    /// The TLS of a connection to a service.
    pub fn client(&self, service: &str) -> ClientConfig {
        self.client_of(Expected::Id(self.id.beside(service)))
    }

    /// The TLS of a connection to any service of the trust domain, for a program that has been given an address.
    pub fn client_of_any(&self) -> ClientConfig {
        self.client_of(Expected::Within(self.id.trust_domain().to_owned()))
    }

    fn client_of(&self, expected: Expected) -> ClientConfig {
        let verifier = Servers { roots: Arc::clone(&self.roots), expected, provider: Arc::clone(&self.provider) };
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider)).with_protocol_versions(&[&TLS13]);
        let mut config = config
            .expect("ring has ciphers for TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Own(Arc::clone(&self.own))));
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        config
    }

    /// When the certificates end, by service.
    pub(super) fn ends(&self) -> impl Iterator<Item = (&'static str, SystemTime)> {
        self.ends.iter().map(|(service, end)| (*service, *end))
    }

    /// The service whose certificate has ended: `service` itself, or that of outgoing calls.
    pub(super) fn ended<'a>(&'a self, service: &'a str) -> Option<&'a str> {
        let ended = |service: &&str| self.ends.get(*service).is_some_and(|end| left(*end).is_zero());
        [service, self.id.service()].into_iter().find(ended)
    }

    /// The service whose certificate ends first, and the time left, if that is less than a third of what it was when
    /// the certificate was read.
    pub(super) fn ending(&self) -> Option<(&'static str, Duration)> {
        let (service, end) = self.ends.iter().min_by_key(|(_, end)| **end)?;
        let (whole, left) = (end.duration_since(self.read).unwrap_or_default(), left(*end));
        (left * 3 < whole || left.is_zero()).then_some((*service, left))
    }

    /// The ID of the certificate of outgoing calls.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificate of outgoing calls, and its key.
    pub(crate) fn own(&self) -> &CertifiedKey {
        &self.own
    }

    /// The service that has an ID; `None` if it is of another trust domain or path, where the same name is another
    /// service.
    pub fn service_of<'id>(&self, id: &'id SpiffeId) -> Option<&'id str> {
        (id.to_string() == self.id.beside(id.service())).then(|| id.service())
    }

    /// The service that a certificate names, or its whole ID if the service is elsewhere in the trust domain.
    pub(crate) fn service(&self, certificate: &CertificateDer<'_>) -> Option<String> {
        let id = SpiffeId::of(certificate).ok()?;
        Some(self.service_of(&id).map_or_else(|| id.to_string(), str::to_owned))
    }

    /// The ID of a certificate, with its issuers behind it: that of a peer, or one that has signed something.
    ///
    /// # Errors
    ///
    /// It is not one of the mesh.
    pub(crate) fn check_chain(&self, chain: &[CertificateDer<'_>]) -> Result<SpiffeId, String> {
        let (end_entity, issuers) = chain.split_first().ok_or("there is no certificate")?;
        let clients = Clients::new(Arc::clone(&self.roots), self.id.trust_domain(), Arc::clone(&self.provider))?;
        clients.verify_client_cert(end_entity, issuers, UnixTime::now()).map_err(|error| error.to_string())?;
        SpiffeId::of(end_entity)
    }

    /// The trust domain of all certificates.
    pub fn trust_domain(&self) -> &str {
        self.id.trust_domain()
    }
}

impl Leaf {
    fn check(&self, roots: &RootCertStore, provider: &CryptoProvider) -> Result<(SpiffeId, SystemTime), String> {
        let certificate = self.certified.end_entity_cert().map_err(|error| format!("cannot be read: {error}"))?;
        let id = SpiffeId::of(certificate)?;
        if id.service() != self.service {
            return Err(format!("is {id}, not that of {}", self.service));
        }
        let end = not_after(certificate).ok_or("has no end that can be read")?;
        if roots.is_empty() {
            // The mistake is that of the bundle.
            return Ok((id, end));
        }
        let parsed = ParsedCertificate::try_from(certificate).map_err(|error| format!("cannot be read: {error}"))?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            roots,
            &self.certified.cert[1..],
            UnixTime::now(),
            algorithms,
        )
        .map_err(|error| format!("is not valid by identity.bundle ({error})"))?;
        // Servers check it as that of a client.
        let clients = Clients::new(Arc::new(roots.clone()), id.trust_domain(), Arc::new(provider.clone()))?;
        clients
            .verify_client_cert(certificate, &self.certified.cert[1..], UnixTime::now())
            .map_err(|error| format!("is not valid as that of a client ({error})"))?;
        Ok((id, end))
    }
}

fn roots(bundle: &[u8], file: &str, mistakes: &mut Mistakes) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let added = certificate.map_err(|error| error.to_string());
        if let Err(error) = added.and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string())) {
            mistakes.bundle.push(format!("names a file with a certificate that cannot be read, {file}: {error}"));
        }
    }
    if roots.is_empty() && mistakes.bundle.is_empty() {
        mistakes.bundle.push(format!("names a file without a certificate, {file}: it needs a block BEGIN CERTIFICATE"));
    }
    roots
}

fn server(
    named: Named,
    roots: &Arc<RootCertStore>,
    trust_domain: &str,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let clients = Clients::new(Arc::clone(roots), trust_domain, Arc::clone(provider))?;
    let config = ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(&[&TLS13]);
    let mut config = config
        .expect("ring has ciphers for TLS 1.3")
        .with_client_cert_verifier(Arc::new(clients))
        .with_cert_resolver(Arc::new(named));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The certificate of the service that the client names, or that of the process.
#[derive(Debug)]
struct Named {
    named: BTreeMap<&'static str, Arc<CertifiedKey>>,
    own: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Named {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named.get(name));
        Some(Arc::clone(named.unwrap_or(&self.own)))
    }
}

/// The certificate of outgoing calls.
#[derive(Debug)]
struct Own(Arc<CertifiedKey>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
