//! A certificate and its private key in PEM files.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Whether it is the file of the key, not that of the certificate.
    pub of_key: bool,
    /// What is wrong, with the name of the file. It continues a sentence that the name of a setting begins.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the setting {}", self.message)
    }
}

/// The contents of the two files.
#[derive(PartialEq, Eq)]
pub(crate) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// Without the private key.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Contents {
    /// # Errors
    ///
    /// A file cannot be read.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, Vec<Mistake>> {
        match (read(certificate), read(key)) {
            (Ok(certificate), Ok(key)) => Ok(Self { certificate, key }),
            (certificate, key) => {
                let of_certificate = certificate.err().map(|message| Mistake { of_key: false, message });
                let of_key = key.err().map(|message| Mistake { of_key: true, message });
                Err(of_certificate.into_iter().chain(of_key).collect())
            }
        }
    }

    /// The certificate with its key. The paths are for the errors.
    ///
    /// # Errors
    ///
    /// A file has not what it should have, or the key is not that of the certificate.
    pub(crate) fn certified(
        &self,
        provider: &CryptoProvider,
        certificate: &Path,
        key: &Path,
    ) -> Result<CertifiedKey, Vec<Mistake>> {
        let (chain, private) = match (self.chain(certificate), self.private(key)) {
            (Ok(chain), Ok(private)) => (chain, private),
            (chain, private) => return Err(chain.err().into_iter().chain(private.err()).collect()),
        };
        let of_key = |message: String| vec![Mistake { of_key: true, message }];
        let signing = provider.key_provider.load_private_key(private).map_err(|_| {
            let supported = "RSA of 2048 bits and more, ECDSA of P-256 and P-384, and Ed25519";
            of_key(format!("names a key that is not supported, {}: supported are {supported}", key.display()))
        })?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
            Err(rustls::Error::InconsistentKeys(_)) => {
                let (key, certificate) = (key.display(), certificate.display());
                Err(of_key(format!("names the key of another certificate, {key}: it is not that of {certificate}")))
            }
            Err(error) => {
                let message = format!("names a certificate that cannot be read, {}: {error}", certificate.display());
                Err(vec![Mistake { of_key: false, message }])
            }
        }
    }

    fn chain(&self, path: &Path) -> Result<Vec<CertificateDer<'static>>, Mistake> {
        let mistake = |message| Mistake { of_key: false, message };
        let path = path.display();
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.certificate).collect();
        let chain = chain.map_err(|error| mistake(format!("names a file that is not valid PEM, {path}: {error}")))?;
        if chain.is_empty() {
            let message = format!("names a file without a certificate, {path}: it needs a block BEGIN CERTIFICATE");
            return Err(mistake(message));
        }
        Ok(chain)
    }

    fn private(&self, path: &Path) -> Result<PrivateKeyDer<'static>, Mistake> {
        let mistake = |message| Mistake { of_key: true, message };
        let path = path.display();
        // PKCS#8 has it in the name of its block, and PKCS#1 in a header of the block.
        if self.key.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
            let write = format!("write it without a passphrase, by `openssl pkey -in {path} -out FILE`");
            return Err(mistake(format!("names an encrypted key, {path}: {write}")));
        }
        PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => {
                mistake(format!("names a file without a private key, {path}: it needs a block BEGIN PRIVATE KEY"))
            }
            error => mistake(format!("names a file that is not valid PEM, {path}: {error}")),
        })
    }
}

const ENCRYPTED: &[u8] = b"ENCRYPTED";

/// Reads a file, or says why it cannot be read.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let unreadable = |error: std::io::Error| format!("names a file that cannot be read, {name}: {error}");
    // To open a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(format!("does not name a file: {name}"));
    }
    let mut contents = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut contents)).map_err(unreadable)?;
    if contents.len() as u64 > MAX_FILE {
        return Err(format!("names a file above 1 MiB, {name}: a certificate and a key are smaller"));
    }
    Ok(contents)
}
