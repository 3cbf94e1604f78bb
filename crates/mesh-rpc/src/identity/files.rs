//! The files of certificates, and what is wrong with them.

use std::fmt;
use std::path::PathBuf;

use super::pem::Mistake;

pub(super) const CERTIFICATE: &str = "identity.certificate";
pub(super) const KEY: &str = "identity.key";
pub(super) const BUNDLE: &str = "identity.bundle";

/// The files of certificates. `{service}` in the first two stands for the name of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// The certificate, with its issuers behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The certificates of the authorities that sign those of peers.
    pub bundle: PathBuf,
}

/// What is wrong with the files, by the setting that names them. Each continues a sentence that its name begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mistakes {
    pub(super) certificate: Vec<String>,
    pub(super) key: Vec<String>,
    pub(super) bundle: Vec<String>,
}

impl Mistakes {
    pub(super) fn add(&mut self, mistakes: Vec<Mistake>) {
        for mistake in mistakes {
            if mistake.of_key { self.key.push(mistake.message) } else { self.certificate.push(mistake.message) }
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Self> {
        let none = self.certificate.is_empty() && self.key.is_empty() && self.bundle.is_empty();
        if none { Ok(()) } else { Err(std::mem::take(self)) }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_keys = [(CERTIFICATE, &self.certificate), (KEY, &self.key), (BUNDLE, &self.bundle)];
        let each =
            of_keys.iter().flat_map(|(key, mistakes)| mistakes.iter().map(move |mistake| format!("{key} {mistake}")));
        f.write_str(&each.collect::<Vec<_>>().join("; "))
    }
}
