//! A certificate for the servers of a test, and a client that trusts it alone.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::LIMIT;

/// A self-signed certificate for `localhost` and 127.0.0.1, with its key.
pub struct Certificate {
    der: Vec<u8>,
    /// The certificate in PEM.
    pub certificate: String,
    /// The key in PEM.
    pub key: String,
}

/// A connection by TLS.
pub type TlsConnection = StreamOwned<ClientConnection, TcpStream>;

impl Certificate {
    /// A certificate with a key of its own.
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random).expect("its own");
        let signed = to_be_signed(pair.public_key().as_ref());
        let signature = pair.sign(&random, &signed).expect("a signature");
        let der = sequence(&[&signed, &ecdsa_with_sha256(), &bits(signature.as_ref())]);
        Self { certificate: pem("CERTIFICATE", &der), key: pem("PRIVATE KEY", key.as_ref()), der }
    }

    /// Writes both files, `certificate.pem` and `key.pem`, and returns their paths.
    pub fn write(&self, folder: &Path) -> [PathBuf; 2] {
        let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::write(&certificate, &self.certificate).expect("a folder");
        std::fs::write(&key, &self.key).expect("a folder");
        [certificate, key]
    }

    /// Connects by TLS to a server that has this certificate, for HTTP/1.1.
    pub fn connect(&self, address: SocketAddr) -> TlsConnection {
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from(self.der.clone())).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("versions").with_root_certificates(trusted).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a connection"), stream)
    }
}

impl Default for Certificate {
    fn default() -> Self {
        Self::new()
    }
}

/// The signed part, see [RFC 5280](https://www.rfc-editor.org/rfc/rfc5280#section-4.1).
fn to_be_signed(public: &[u8]) -> Vec<u8> {
    let version = der(0xa0, &[&[2, 1, 2]]);
    let common_name = sequence(&[&[6, 3, 0x55, 4, 3], &der(12, &[b"localhost"])]);
    let name = sequence(&[&der(0x31, &[&common_name])]);
    let validity = sequence(&[&der(23, &[b"200101000000Z"]), &der(23, &[b"491231235959Z"])]);
    let algorithm = sequence(&[
        &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1],    // id-ecPublicKey
        &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7], // prime256v1
    ]);
    let key = sequence(&[&algorithm, &bits(public)]);
    let names = sequence(&[&der(0x82, &[b"localhost"]), &der(0x87, &[&[127, 0, 0, 1]])]);
    let names = sequence(&[&[6, 3, 0x55, 0x1d, 17], &der(4, &[&names])]);
    let extensions = der(0xa3, &[&sequence(&[&names])]);
    sequence(&[&version, &[2, 1, 1], &ecdsa_with_sha256(), &name, &validity, &name, &key, &extensions])
}

fn ecdsa_with_sha256() -> Vec<u8> {
    sequence(&[&[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, parts)
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    der(3, &[&[0], bytes])
}

/// A value of up to 64 KiB.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let [high, low] = u16::try_from(content.len()).expect("a short value").to_be_bytes();
    // The shortest form of the length.
    let length: &[u8] = match (high, low) {
        (0, 0..128) => &[low],
        (0, _) => &[0x81, low],
        _ => &[0x82, high, low],
    };
    [&[tag], length, &content].concat()
}

/// A block of PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
