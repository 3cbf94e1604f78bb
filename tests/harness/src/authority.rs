//! A certificate authority for the services of a test, and a client that shows one of its certificates, or another.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use super::LIMIT;
use super::certificate::pem;

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

/// A certificate of an authority, with its key.
pub struct Leaf {
    /// The certificate, with its issuers behind it.
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Authority {
    /// An authority with a key of its own. All have the same name.
    pub fn new() -> Self {
        let mut parameters = parameters("test CA", Duration::from_secs(3600));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let der = parameters.self_signed(&key).expect("a certificate").der().clone();
        Self { issuer: Issuer::new(parameters, key), der }
    }

    /// Its certificate in PEM.
    pub fn bundle(&self) -> String {
        pem("CERTIFICATE", &self.der)
    }

    /// A certificate with these URIs, for an hour.
    pub fn leaf(&self, uris: &[&str]) -> Leaf {
        self.sign(parameters("leaf", Duration::from_secs(3600)), uris)
    }

    /// A certificate that ends soon.
    pub fn lasting(&self, uri: &str, lifetime: Duration) -> Leaf {
        self.sign(parameters("leaf", lifetime), &[uri])
    }

    /// A certificate that has ended.
    pub fn ended(&self, uri: &str) -> Leaf {
        let mut parameters = parameters("leaf", Duration::ZERO);
        parameters.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        self.sign(parameters, &[uri])
    }

    /// The certificate of a service.
    pub fn service(&self, name: &str) -> Leaf {
        self.leaf(&[&format!("spiffe://dev.mesh/service/{name}")])
    }

    fn sign(&self, parameters: CertificateParams, uris: &[&str]) -> Leaf {
        sign(parameters, uris, &self.issuer)
    }

    /// Writes the bundle and the certificates of services, as the settings name them.
    pub fn write(&self, folder: &Path, services: &[&str]) {
        std::fs::write(folder.join("ca.pem"), self.bundle()).expect("a folder");
        for service in services {
            self.service(service).write(folder, service);
        }
    }

    /// Calls `catalog.v1.CatalogService/ListTitles` at a server with a certificate, or without one, and reads the
    /// beginning of the answer.
    ///
    /// # Errors
    ///
    /// What ends the connection instead.
    pub fn call(&self, address: SocketAddr, shown: Option<&Leaf>) -> Result<(), String> {
        TlsClient::showing(shown).call(address, "catalog").map(drop)
    }
}

/// A client of TLS with its memory of sessions. It trusts every server: that is not what it is for.
pub struct TlsClient(ClientConfig);

/// What a client has seen of a server.
#[derive(Debug)]
pub struct Seen {
    /// Whether a session was resumed.
    pub resumed: bool,
    /// Tickets for later sessions.
    pub tickets: u32,
    /// The certificate, in DER.
    pub certificate: Vec<u8>,
}

impl TlsClient {
    /// A client with a certificate, or without one.
    pub fn showing(leaf: Option<&Leaf>) -> Self {
        Self::of_versions(leaf, rustls::DEFAULT_VERSIONS)
    }

    /// A client that speaks TLS 1.2 and nothing later.
    pub fn old(leaf: &Leaf) -> Self {
        Self::of_versions(Some(leaf), &[&rustls::version::TLS12])
    }

    fn of_versions(leaf: Option<&Leaf>, versions: &[&'static rustls::SupportedProtocolVersion]) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        // A server's certificate has no name of a host.
        let config = config.expect("versions").dangerous().with_custom_certificate_verifier(Arc::new(AnyServer));
        let mut config = match leaf {
            Some(leaf) => {
                let key = PrivatePkcs8KeyDer::from(leaf.key.clone()).into();
                config.with_client_auth_cert(leaf.chain.clone(), key).expect("a certificate with its key")
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self(config)
    }

    /// Calls `catalog.v1.CatalogService/ListTitles` at the server that has this name, and reads the beginning of the
    /// answer.
    ///
    /// # Errors
    ///
    /// What ends the connection instead.
    pub fn call(&self, address: SocketAddr, name: &str) -> Result<Seen, String> {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(LIMIT)).map_err(|error| error.to_string())?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(self.0.clone()), name).expect("a connection");
        let mut tls = StreamOwned::new(connection, stream);
        let answered = tls.write_all(&request()).and_then(|()| tls.read_exact(&mut [0; 9]));
        answered.map_err(|error| error.to_string())?;
        let certificate = tls.conn.peer_certificates().and_then(|chain| chain.first()).map(|first| first.to_vec());
        Ok(Seen {
            resumed: tls.conn.handshake_kind() == Some(HandshakeKind::Resumed),
            tickets: tls.conn.tls13_tickets_received(),
            certificate: certificate.expect("a certificate"),
        })
    }
}

impl Leaf {
    /// A server with this certificate that lets every client in and hands out tickets for sessions, until the test
    /// ends.
    pub fn serve_with_tickets(&self) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivatePkcs8KeyDer::from(self.key.clone()).into();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(self.chain.clone(), key);
        let mut config = config.expect("a certificate with its key");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
                let mut tls = StreamOwned::new(connection, stream);
                // As much as the client waits for.
                let _ = tls.read(&mut [0; 9]).and_then(|_| tls.write_all(&[0; 9])).and_then(|()| tls.flush());
            }
        });
        address
    }
}

/// The bytes of the call: the preface and the settings of HTTP/2, headers, and an empty message.
fn request() -> Vec<u8> {
    let path = b"/catalog.v1.CatalogService/ListTitles";
    // :method POST and :scheme http of the static table; :path, :authority and content-type with a value.
    let mut headers = vec![0x83, 0x86];
    for (name, value) in [(0x04, &path[..]), (0x01, b"catalog"), (0x0f, b"application/grpc")] {
        // An index above 14 has a second byte: content-type is 31.
        headers.extend(if name == 0x0f { vec![0x0f, 16] } else { vec![name] });
        headers.push(u8::try_from(value.len()).expect("a short value"));
        headers.extend(value);
    }
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).expect("a short frame");
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    [preface, frame(4, 0, 0, &[]), frame(1, 4, 1, &headers), frame(0, 1, 1, &[0; 5])].concat()
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Leaf {
    /// A certificate that this one has signed, which is no authority. A client shows both.
    pub fn signs(&self, uri: &str) -> Self {
        let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(&self.key[..])).expect("a key");
        let mut issuer = parameters("leaf", Duration::from_secs(3600));
        issuer.is_ca = IsCa::NoCa;
        let signed = sign(parameters("leaf of a leaf", Duration::from_secs(3600)), &[uri], &Issuer::new(issuer, key));
        Self { chain: [signed.chain, self.chain.clone()].concat(), ..signed }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write(&self, folder: &Path, name: &str) {
        std::fs::write(folder.join(format!("{name}.key")), pem("PRIVATE KEY", &self.key)).expect("a folder");
        std::fs::write(
            folder.join(format!("{name}.pem")),
            self.chain.iter().map(|der| pem("CERTIFICATE", der)).collect::<String>(),
        )
        .expect("a folder");
    }
}

fn sign(mut parameters: CertificateParams, uris: &[&str], issuer: &Issuer<'static, KeyPair>) -> Leaf {
    parameters.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))).collect();
    let key = KeyPair::generate().expect("a key");
    let der = parameters.signed_by(&key, issuer).expect("a certificate").der().clone();
    Leaf { chain: vec![der], key: key.serialize_der() }
}

fn parameters(name: &str, lifetime: Duration) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.not_before = (SystemTime::now() - Duration::from_secs(300)).into();
    parameters.not_after = (SystemTime::now() + lifetime).into();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

/// Trusts every server.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
