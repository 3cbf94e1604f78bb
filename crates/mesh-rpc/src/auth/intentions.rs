//! Intentions: which services may call which, and what of it, in a file that may be replaced while the process runs.
//!
//! ```toml
//! catalog = ["artwork", "composer: catalog.v1.CatalogService/BatchGetTitles"]
//! ```
//!
//! Guarantees:
//! - A service that the file does not name is called by no other one.
//! - A change is in force [`POLL`] after it was written, at the latest, also for open streams.
//! - A file that cannot be used leaves the intentions in use, with one warning.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::call::{Method, Methods};
use crate::reread::reread;

/// The interval at which the file is read again.
const POLL: Duration = Duration::from_millis(500);
/// The packages whose contracts every service may serve.
const SHARED: [&str; 2] = ["google", "mesh"];

/// The intentions in use. Cheap to clone; the clones share them.
#[derive(Clone, Debug)]
pub struct Intentions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    system: System,
    table: watch::Sender<Arc<Table>>,
}

/// The names that a file may have.
#[derive(Clone, Debug)]
pub struct System {
    /// The services and processes of the system.
    pub names: BTreeSet<&'static str>,
    /// The methods.
    pub methods: Methods,
    /// The services of this process.
    pub local: Vec<&'static str>,
}

/// Who may call, by the service that is called.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table(BTreeMap<String, Vec<Caller>>);

#[derive(Debug, PartialEq, Eq)]
struct Caller {
    service: String,
    /// The path of the one method that it may call. `None`: all.
    method: Option<String>,
}

impl Intentions {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// All of its mistakes, each as the end of a sentence that the key begins.
    pub fn read(path: &Path, system: System) -> Result<Self, Vec<String>> {
        let table = read(path, &system)?;
        let table = watch::Sender::new(Arc::new(table));
        Ok(Self(Arc::new(Shared { path: path.to_owned(), system, table })))
    }

    /// Reads the file again and again, and uses what is new. Never returns.
    pub async fn renew(self) {
        reread(POLL, "intentions", move || self.read_again()).await;
    }

    fn read_again(&self) -> Result<(), String> {
        let new = read(&self.0.path, &self.0.system).map_err(|mistakes| mistakes.join("; "))?;
        let replaced = self.0.table.send_if_modified(|table| {
            let changed = **table != new;
            if changed {
                *table = Arc::new(new);
            }
            changed
        });
        if replaced {
            tracing::info!("the new intentions are in use");
        }
        Ok(())
    }

    /// Whether `service` may call a method of this process.
    pub(super) fn allow(&self, service: &str, method: &Method) -> bool {
        self.0.table.borrow().allows(service, method, &self.0.system.local)
    }

    /// Waits until `service` may no longer call a method.
    pub(super) async fn revoked(&self, service: &str, method: &Method) {
        let mut table = self.0.table.subscribe();
        // The sender lives as long as this.
        let _ = table.wait_for(|table| !table.allows(service, method, &self.0.system.local)).await;
    }
}

impl Table {
    /// A contract that many services serve is that of each service of the process.
    fn allows(&self, service: &str, method: &Method, local: &[&'static str]) -> bool {
        let package = method.service.split('.').next().unwrap_or_default();
        let own = [package];
        let called = if SHARED.contains(&package) { local } else { &own };
        called.iter().any(|called| *called == service || self.names(called, service, method))
    }

    fn names(&self, called: &str, service: &str, method: &Method) -> bool {
        let is_of = |path: &str| path.split_once('/') == Some((method.service, method.name));
        let mut callers = self.0.get(called).into_iter().flatten();
        callers.any(|caller| caller.service == service && caller.method.as_deref().is_none_or(is_of))
    }
}

fn read(path: &Path, system: &System) -> Result<Table, Vec<String>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![format!("names a file that cannot be read, {shown}: {error}")])?;
    let lists: BTreeMap<String, Vec<String>> = toml::from_str(&text).map_err(|error| {
        let why = error.message().to_owned();
        vec![format!("names a file that is no table of lists of texts, {shown}: {why}")]
    })?;
    let (mut table, mut mistakes) = (Table::default(), Vec::new());
    for (called, callers) in lists {
        if !system.names.contains(called.as_str()) {
            mistakes.push(format!("names a file with an unknown service, {shown}: `{called}`"));
        }
        let callers = callers.iter().filter_map(|text| {
            let caller = caller(text, &called, system);
            caller.map_err(|why| mistakes.push(format!("names a file with {why}, {shown}: `{text}` of {called}"))).ok()
        });
        let callers = callers.collect();
        table.0.insert(called, callers);
    }
    if mistakes.is_empty() { Ok(table) } else { Err(mistakes) }
}

/// `SERVICE`, or `SERVICE: PACKAGE.Service/Method`.
fn caller(text: &str, called: &str, system: &System) -> Result<Caller, &'static str> {
    let (service, method) = text.split_once(':').map_or((text, None), |(service, method)| (service, Some(method)));
    let (service, method) = (service.trim(), method.map(str::trim));
    if !system.names.contains(service) {
        return Err("an unknown caller");
    }
    if let Some(path) = method {
        let known = system.methods.find(&format!("/{path}"));
        if path.split_once('/') != Some((known.service, known.name)) {
            return Err("an unknown method");
        }
        let package = known.service.split('.').next().unwrap_or_default();
        if package != called && !SHARED.contains(&package) {
            return Err("a method of another service");
        }
    }
    Ok(Caller { service: service.to_owned(), method: method.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "google.longrunning.Operations/GetOperation";

    fn system() -> System {
        System { names: ["a", "b", "gateway"].into(), methods: Methods::of(&[]), local: vec!["a"] }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn intentions_name_services_and_methods() {
        let file = file(&format!("a = ['b', 'gateway: {GET}']"));
        let (intentions, system) = (Intentions::read(file.path(), system()).unwrap(), system());
        let allow = |service, path: &str| intentions.allow(service, system.methods.find(&format!("/{path}")));
        let cancel = "google.longrunning.Operations/CancelOperation";
        assert!(allow("b", GET) && allow("b", cancel), "all methods");
        assert!(allow("gateway", GET) && !allow("gateway", cancel), "one method");
        assert!(allow("a", cancel), "itself");
        assert!(!allow("c", GET), "a service that is not named");
        std::fs::write(file.path(), "b = ['a']").unwrap();
        intentions.read_again().unwrap();
        assert!(!allow("b", GET), "no entry: nobody");
    }

    #[test]
    fn intentions_list_every_mistake() {
        let file = file("x = []\na = ['y', 'b: no.such/Method', 'b']");
        let mistakes = Intentions::read(file.path(), system()).unwrap_err();
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
        for (text, words) in [("a = 'b'", "no table of lists"), ("a = [", "no table of lists")] {
            std::fs::write(file.path(), text).unwrap();
            let mistakes = Intentions::read(file.path(), system()).unwrap_err();
            assert!(mistakes.len() == 1 && mistakes[0].contains(words) && !mistakes[0].contains('\n'), "{mistakes:?}");
        }
        assert!(Intentions::read(Path::new("/no/such/file"), system()).unwrap_err()[0].contains("cannot be read"));
    }

    #[tokio::test]
    async fn revoked_intention_is_noticed() {
        let file = file("a = ['b']");
        let (intentions, system) = (Intentions::read(file.path(), system()).unwrap(), system());
        let method = system.methods.find(&format!("/{GET}"));
        let waiting = tokio::spawn({
            let intentions = intentions.clone();
            async move { intentions.revoked("b", method).await }
        });
        tokio::task::yield_now().await;
        std::fs::write(file.path(), "a = []").unwrap();
        intentions.read_again().unwrap();
        waiting.await.unwrap();
        std::fs::write(file.path(), "a = [").unwrap();
        assert!(intentions.read_again().is_err() && !intentions.allow("b", method), "the old ones stay in use");
    }
}
