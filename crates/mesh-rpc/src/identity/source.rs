//! The files of certificates, which may be replaced while the process runs.
//!
//! Guarantees:
//! - New files are in use [`POLL`] after they were written, at the latest, by new connections.
//! - Files that cannot be used leave the certificates in use, with one warning.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::ring;
use tokio::sync::watch;
use tokio::time::sleep;

use super::files::{Identities, Mistakes};
use super::pem::{Contents, read};
use super::snapshot::{Leaf, Snapshot};
use crate::reread::reread;
use crate::telemetry::TlsMetrics;

/// The interval at which the files are read again.
const POLL: Duration = Duration::from_secs(5);

/// The certificates in use. Cheap to clone; the clones share them.
#[derive(Clone, Debug)]
pub struct Source(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    identities: Identities,
    services: Vec<&'static str>,
    current: watch::Sender<Arc<Snapshot>>,
    read: RwLock<Vec<Files>>,
}

/// The contents of the files of one service, and of the bundle.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    service: &'static str,
    paths: [PathBuf; 2],
    contents: Contents,
    bundle: Vec<u8>,
}

impl Source {
    /// Reads the certificates of these services. The first one is that of outgoing calls.
    ///
    /// # Errors
    ///
    /// The mistakes of all files.
    pub fn read(identities: &Identities, services: &[&'static str]) -> Result<Self, Mistakes> {
        let read = files(identities, services)?;
        let current = snapshot(identities, &read)?;
        let (current, read) = (watch::Sender::new(Arc::new(current)), RwLock::new(read));
        Ok(Self(Arc::new(Shared { identities: identities.clone(), services: services.to_owned(), current, read })))
    }

    /// The files.
    pub fn identities(&self) -> &Identities {
        &self.0.identities
    }

    /// The certificates in use.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.current.borrow())
    }

    /// Waits until the certificates in use are such.
    pub(super) async fn until(&self, are_such: impl Fn(&Arc<Snapshot>) -> bool) {
        // The sender lives as long as this.
        let _ = self.0.current.subscribe().wait_for(are_such).await;
    }

    /// Why a service cannot work, if its certificate has ended, or that of outgoing calls.
    pub fn ended(&self, service: &str) -> Option<String> {
        let current = self.current();
        let ended = current.ended(service)?;
        let file = of_service(&self.0.identities.certificate, ended);
        Some(format!("the certificate of {ended} has expired: write a new one to {}", file.display()))
    }

    /// Reads the files again and again, and uses what is new. Never returns.
    pub async fn renew(self, metrics: TlsMetrics) {
        let source = self.clone();
        metrics.begin();
        source.measure(&metrics);
        let read = move || source.read_again(&metrics);
        tokio::join!(reread(POLL, "certificates", read), self.warn_of_ends());
    }

    fn measure(&self, metrics: &TlsMetrics) {
        for (service, end) in self.current().ends() {
            metrics.ends(service, end);
        }
    }

    /// Warns of a certificate that ends soon, once until another one is in use.
    async fn warn_of_ends(self) {
        let mut warned = false;
        loop {
            sleep(POLL).await;
            let ending = self.current().ending();
            if let (Some((service, left)), false) = (ending, warned) {
                let seconds = left.as_secs();
                tracing::warn!(service, seconds, "a certificate ends soon: its files have not been renewed");
            }
            warned = ending.is_some();
        }
    }

    fn read_again(&self, metrics: &TlsMetrics) -> Result<(), Mistakes> {
        let renewed = self.renew_once();
        match &renewed {
            Ok(true) => {
                self.measure(metrics);
                metrics.renewed(true);
            }
            Ok(false) => {}
            Err(_) => metrics.renewed(false),
        }
        renewed.map(drop)
    }

    /// Uses new files. Returns whether there are any.
    fn renew_once(&self) -> Result<bool, Mistakes> {
        let read = files(&self.0.identities, &self.0.services)?;
        if read == *self.0.read.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(false);
        }
        let snapshot = snapshot(&self.0.identities, &read)?;
        tracing::info!(trust_domain = snapshot.trust_domain(), "the new certificates are in use");
        self.0.current.send_replace(Arc::new(snapshot));
        *self.0.read.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(true)
    }
}

fn files(identities: &Identities, services: &[&'static str]) -> Result<Vec<Files>, Mistakes> {
    let mut mistakes = Mistakes::default();
    let bundle = read(&identities.bundle).unwrap_or_else(|why| {
        mistakes.bundle.push(why);
        Vec::new()
    });
    let mut found = Vec::new();
    for service in services.iter().copied() {
        let paths = [&identities.certificate, &identities.key].map(|path| of_service(path, service));
        match Contents::read(&paths[0], &paths[1]) {
            Ok(contents) => found.push(Files { service, paths, contents, bundle: bundle.clone() }),
            Err(wrong) => mistakes.add(wrong),
        }
    }
    mistakes.finish()?;
    Ok(found)
}

/// A path of the settings, with the name of the service in the place of `{service}`.
fn of_service(path: &Path, service: &str) -> PathBuf {
    path.to_string_lossy().replace("{service}", service).into()
}

fn snapshot(identities: &Identities, files: &[Files]) -> Result<Snapshot, Mistakes> {
    let provider = ring::default_provider();
    let (mut leaves, mut mistakes) = (Vec::new(), Mistakes::default());
    for Files { service, paths: [certificate, key], contents, .. } in files {
        match contents.certified(&provider, certificate, key) {
            Ok(certified) => leaves.push(Leaf { service, file: certificate.display().to_string(), certified }),
            Err(wrong) => mistakes.add(wrong),
        }
    }
    mistakes.finish()?;
    let bundle = files.first().map(|files| files.bundle.as_slice()).unwrap_or_default();
    Snapshot::check(leaves, bundle, &identities.bundle.display().to_string())
}
