//! The settings `tls.mode` and `identity`.

use std::net::SocketAddr;

use mesh_runtime::settings::{self, Key, Settings, Shown, parse};

use super::files::{BUNDLE, CERTIFICATE, Identities, KEY, Mistakes};
use super::source::Source;

const MODE: &str = "tls.mode";

/// Whether processes speak TLS with each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Not on loopback, and mutual TLS elsewhere.
    #[default]
    Auto,
    /// Mutual TLS everywhere.
    Mutual,
    /// No TLS.
    Plaintext,
}

/// The TLS between processes.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    /// Where TLS is spoken.
    pub mode: Mode,
    /// The certificates of this process, if it has any.
    pub source: Option<Source>,
}

/// The security of a connection.
pub(crate) enum Security<'a> {
    Plaintext,
    Mutual(&'a Source),
    /// Plaintext is not allowed there, and there are no certificates.
    Refused,
}

impl Transport {
    /// Reads the keys, and the files that they name. `services` are those of the process, the first one the name of the
    /// process. `listen` is its address for other processes; `None` for a gateway, whose clients are outside of the
    /// mesh.
    pub fn take(services: &[&'static str], listen: Option<SocketAddr>, settings: &mut Settings) -> Self {
        let key = Key::new(MODE, "auto, mutual or plaintext");
        let mode_source = settings.source(MODE).cloned();
        let mode = settings.take(&key, Mode::Auto, mode_of);
        let mut file = |key: &'static str| {
            let source = settings.source(key).cloned();
            settings.optional(&Key::new(key, "a file"), parse::path).zip(source)
        };
        let files = [(CERTIFICATE, file(CERTIFICATE)), (KEY, file(KEY)), (BUNDLE, file(BUNDLE))];
        let from = files.iter().find_map(|(_, file)| file.as_ref().map(|(_, source)| source.clone()));
        let needed = match mode {
            Mode::Mutual => mode_source.clone().map(|source| (source, "tls.mode = mutual needs it")),
            Mode::Auto | Mode::Plaintext => from.map(|source| (source, "the others of identity need it")),
        };
        if let Some((source, why)) = needed {
            for (key, _) in files.iter().filter(|(_, file)| file.is_none()) {
                settings.problem(
                    *key,
                    source.clone(),
                    format!("is not set: {why}; `mesh ca` writes all files for development"),
                );
            }
        }
        let [(_, certificate), (_, key), (_, bundle)] = files;
        let source = match (certificate, key, bundle) {
            (Some((certificate, of_certificate)), Some((key, of_key)), Some((bundle, of_bundle))) => {
                match Source::read(&Identities { certificate, key, bundle }, services) {
                    Ok(source) => Some(source),
                    Err(mistakes) => {
                        report(mistakes, [of_certificate, of_key, of_bundle], settings);
                        return Self { mode, source: None };
                    }
                }
            }
            _ => None,
        };
        if let (Mode::Auto, None, Some(listen)) = (mode, &source, listen.filter(|listen| !listen.ip().is_loopback())) {
            let message = format!(
                "is not set, and other machines reach {listen}: set the three keys of identity, or tls.mode to plaintext"
            );
            settings.problem(MODE, mode_source.unwrap_or(settings::Source::Default), message);
        }
        Self { mode, source }
    }

    /// The certificates, if any connection may need them.
    pub fn certificates(&self) -> Option<&Source> {
        self.source.as_ref().filter(|_| self.mode != Mode::Plaintext)
    }

    /// Whether the listener at an address speaks mutual TLS.
    pub fn is_mutual_at(&self, address: SocketAddr) -> bool {
        matches!(self.at(address), Security::Mutual(_))
    }

    /// The options with which grpcurl calls the listener at an address as `service`.
    pub fn grpcurl_options(&self, address: SocketAddr, service: &str) -> String {
        match self.at(address) {
            Security::Plaintext | Security::Refused => "-plaintext".to_owned(),
            Security::Mutual(source) => {
                let Identities { certificate, key, bundle } = source.identities();
                let [certificate, key] =
                    [certificate, key].map(|path| path.to_string_lossy().replace("{service}", service));
                format!("-cacert {} -cert {certificate} -key {key}", bundle.display())
            }
        }
    }

    /// The security of a connection at an address.
    pub(crate) fn at(&self, address: SocketAddr) -> Security<'_> {
        match (self.mode, &self.source) {
            (Mode::Plaintext, _) => Security::Plaintext,
            (Mode::Auto, _) if address.ip().is_loopback() => Security::Plaintext,
            (Mode::Auto | Mode::Mutual, Some(source)) => Security::Mutual(source),
            (Mode::Auto | Mode::Mutual, None) => Security::Refused,
        }
    }
}

impl Shown for Mode {
    fn shown(&self) -> String {
        let name = match self {
            Self::Auto => "auto",
            Self::Mutual => "mutual",
            Self::Plaintext => "plaintext",
        };
        name.to_owned()
    }
}

fn mode_of(text: &str) -> Option<Mode> {
    match text {
        "auto" => Some(Mode::Auto),
        "mutual" => Some(Mode::Mutual),
        "plaintext" => Some(Mode::Plaintext),
        _ => None,
    }
}

fn report(mistakes: Mistakes, sources: [settings::Source; 3], settings: &mut Settings) {
    let of_keys = [(CERTIFICATE, mistakes.certificate), (KEY, mistakes.key), (BUNDLE, mistakes.bundle)];
    for ((key, mistakes), source) in of_keys.into_iter().zip(sources) {
        for mistake in mistakes {
            settings.problem(key, source.clone(), mistake);
        }
    }
}
