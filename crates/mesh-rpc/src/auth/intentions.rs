//! Intentions: which services may call which, and what of it, in a file that may be replaced while the process runs.
//!
//! ```toml
//! catalog = ["artwork", "composer: catalog.v1.CatalogService/BatchGetTitles"]
//! ```
//!
//! Guarantees:
//! - A service that the file does not name is called by no other one.
//! - A change is in force a second after it was written, at the latest, also for open streams.
//! - A file that cannot be used leaves the intentions in use, with one warning. So does one that is being written: it counts once two
//!   reads have found the same, and not without a line.
//! - What a new file names and this process does not know allows nothing: services are replaced one by one. The log says it of
//!   a file that changes something.
//! - Reflection is not restricted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mesh_runtime::settings::{line_of, toml_mistake};
use tokio::sync::watch;
use toml::Spanned;

use crate::call::{Call, Method, Methods};
use crate::reread::reread;
use crate::telemetry::DASHBOARD;

/// The interval at which the file is read again. A new file counts once two reads have found the same.
const READ: Duration = Duration::from_millis(300);

/// The callers that every system knows beside its services: a gateway, a process of several services, the command `mesh`, and the
/// dashboard of a process, which calls in memory.
pub const KNOWN_CALLERS: [&str; 4] = ["gateway", "monolith", "mesh", DASHBOARD];

/// The intentions in use. Cheap to clone; the clones share them.
#[derive(Clone, Debug)]
pub struct Intentions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    system: System,
    table: watch::Sender<Arc<Table>>,
    /// What was read last.
    last: Mutex<Option<Table>>,
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
        let (table, mistakes) = read(path, &system).map_err(|mistake| vec![mistake])?;
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let (table, last) = (watch::Sender::new(Arc::new(table)), Mutex::default());
        Ok(Self(Arc::new(Shared { path: path.to_owned(), system, table, last })))
    }

    /// Reads the file again and again, and uses what is new. Never returns.
    pub async fn renew(self) {
        reread(READ, "intentions", move || self.read_again()).await;
    }

    fn read_again(&self) -> Result<(), String> {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = read(&self.0.path, &self.0.system);
        let seen = last.take();
        let (new, unknown) = read?;
        if new == **self.0.table.borrow() {
            return Ok(());
        }
        if seen.as_ref() != Some(&new) {
            *last = Some(new);
            return Ok(());
        }
        self.0.table.send_replace(Arc::new(new));
        tracing::info!("the new intentions are in use");
        if !unknown.is_empty() {
            let unknown = unknown.join("; ");
            tracing::warn!(unknown, "intentions that this process does not know allow nothing");
        }
        Ok(())
    }

    /// Whether the file, as far as it says, refuses calls of `service` to another one. A file with services of this process
    /// alone says nothing of others.
    pub fn refuse(&self, service: &str, called: &'static str, method: &'static Method) -> bool {
        let (table, local) = (self.0.table.borrow(), &self.0.system.local);
        let is_local = |name: &str| local.contains(&name);
        let says = is_local(called) || table.0.keys().any(|name| !is_local(name));
        says && !table.allows(&Intended { service: service.to_owned(), called: Some(called), method }, local)
    }

    /// Whether a call is intended.
    pub(super) fn allow(&self, intended: &Intended) -> bool {
        self.0.table.borrow().allows(intended, &self.0.system.local)
    }

    /// Waits until a call is no longer intended.
    pub(super) async fn revoked(&self, intended: &Intended) {
        let mut table = self.0.table.subscribe();
        // The sender lives as long as this.
        let _ = table.wait_for(|table| !table.allows(intended, &self.0.system.local)).await;
    }
}

/// A call of a service.
pub(super) struct Intended {
    service: String,
    /// The service that is called, if the call is in memory.
    called: Option<&'static str>,
    method: &'static Method,
}

impl Intended {
    pub(super) fn of<B>(call: &Call<B>, service: &str) -> Self {
        Self { service: service.to_owned(), called: call.called(), method: call.method }
    }
}

impl Table {
    /// A contract that many services serve is that of each service of the process, unless the call says which.
    fn allows(&self, Intended { service, called, method }: &Intended, local: &[&'static str]) -> bool {
        if method.is_of_processes() {
            return true;
        }
        let own = [called.unwrap_or(method.package())];
        let called = if method.is_shared() && called.is_none() { local } else { &own };
        called.iter().any(|called| *called == service || self.names(called, service, method))
    }

    fn names(&self, called: &str, service: &str, method: &Method) -> bool {
        let is_of = |path: &str| path.split_once('/') == Some((method.service, method.name));
        let mut callers = self.0.get(called).into_iter().flatten();
        callers.any(|caller| caller.service == service && caller.method.as_deref().is_none_or(is_of))
    }
}

/// The table in a file, without what is unknown, and what that is. Each is the end of a sentence that the key begins.
fn read(path: &Path, system: &System) -> Result<(Table, Vec<String>), String> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("names a file that cannot be read, {shown}: {error}"))?;
    let lists: BTreeMap<Spanned<String>, Vec<Spanned<String>>> = toml::from_str(&text).map_err(|error| {
        format!("names a file that is no table of lists of texts, {shown}: {}", toml_mistake(&text, &error))
    })?;
    if lists.is_empty() {
        return Err(format!("names a file without a line, {shown}: nobody could call anything"));
    }
    let (mut table, mut unknown) = (Table::default(), Vec::new());
    let line = |span: Range<usize>| line_of(&text, span.start);
    for (called, callers) in lists {
        let (at, called) = (line(called.span()), called.into_inner());
        if !system.names.contains(called.as_str()) {
            unknown.push(format!(
                "names a file with an unknown service, {shown}: line {at}: `{called}`; name one without a contract in \
                 sidecar.peers"
            ));
        }
        let callers = callers.iter().filter_map(|named| {
            let (at, named) = (line(named.span()), named.get_ref());
            let mistake = |why| format!("names a file with {why}, {shown}: line {at}: `{named}` of {called}");
            caller(named, &called, system).map_err(|why| unknown.push(mistake(why))).ok()
        });
        let callers = callers.collect();
        table.0.insert(called, callers);
    }
    Ok((table, unknown))
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
        if known.package() != called && !known.is_shared() {
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

    fn call(service: &str, path: &str) -> Intended {
        Intended { service: service.to_owned(), called: None, method: system().methods.find(&format!("/{path}")) }
    }

    /// Writes a file, and has it read until it counts.
    fn replace(file: &tempfile::NamedTempFile, intentions: &Intentions, text: &str) {
        std::fs::write(file.path(), text).unwrap();
        intentions.read_again().unwrap();
        intentions.read_again().unwrap();
    }

    #[test]
    fn intentions_name_services_and_methods() {
        let file = file(&format!("a = ['b', 'gateway: {GET}']"));
        let intentions = Intentions::read(file.path(), system()).unwrap();
        let allow = |service, path: &str| intentions.allow(&call(service, path));
        let cancel = "google.longrunning.Operations/CancelOperation";
        assert!(allow("b", GET) && allow("b", cancel), "all methods");
        assert!(allow("gateway", GET) && !allow("gateway", cancel), "one method");
        assert!(allow("a", cancel), "itself");
        assert!(!allow("c", GET), "a service that is not named");
        assert!(allow("c", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), "reflection");
        let in_memory = Intended { called: Some("b"), ..call("a", GET) };
        assert!(!intentions.allow(&in_memory), "another service of the same process");
        replace(&file, &intentions, "b = ['a']");
        assert!(!allow("b", GET), "no entry: nobody");
        assert!(intentions.allow(&in_memory));
    }

    #[test]
    fn intentions_refuse_what_they_speak_of() {
        let get = system().methods.find(&format!("/{GET}"));
        let refused = |text, service, called| {
            let file = file(text);
            Intentions::read(file.path(), system()).unwrap().refuse(service, called, get)
        };
        assert!(!refused("a = ['b']", "b", "a") && refused("a = ['gateway']", "b", "a"));
        assert!(refused("b = ['gateway']", "a", "b") && refused("gateway = ['b']", "a", "b"), "a file of all");
        assert!(!refused("a = ['gateway']", "a", "b"), "a file of this process");
    }

    #[test]
    fn intentions_that_are_being_written_do_not_count() {
        let file = file("a = ['b']");
        let intentions = Intentions::read(file.path(), system()).unwrap();
        let allowed = || intentions.allow(&call("b", GET));
        for text in ["", "a = [", "a = ['gateway']"] {
            std::fs::write(file.path(), text).unwrap();
            let _ = intentions.read_again();
            assert!(allowed(), "{text}");
        }
        replace(&file, &intentions, "a = ['gateway']");
        assert!(!allowed());
        std::fs::write(file.path(), "").unwrap();
        assert!((0..2).all(|_| intentions.read_again().is_err()), "a file without a line");
    }

    #[test]
    fn intentions_list_every_mistake() {
        let file = file("# Known: a, b.\nx = []\na = [\n  'y',\n  'b: no.such/Method', 'b',\n]\n");
        let mistakes = Intentions::read(file.path(), system()).unwrap_err();
        // In the order of the services that are called.
        let lines = [
            "line 4: `y` of a",
            "line 5: `b: no.such/Method` of a",
            "line 2: `x`; name one without a contract in sidecar.peers",
        ];
        assert_eq!(mistakes.len(), lines.len(), "{mistakes:?}");
        assert!(mistakes.iter().zip(lines).all(|(mistake, line)| mistake.ends_with(line)), "{mistakes:?}");
        for (text, words) in [("# c\na = 'b'", "line 2: "), ("b = []\n\na = [", "line 3: "), ("a = [1]", "line 1: ")] {
            std::fs::write(file.path(), text).unwrap();
            let mistakes = Intentions::read(file.path(), system()).unwrap_err();
            let [mistake] = &mistakes[..] else { panic!("{mistakes:?}") };
            assert!(mistake.contains("no table of lists") && mistake.contains(words), "{mistake}");
            assert!(!mistake.contains('\n'), "{mistake}");
        }
        assert!(Intentions::read(Path::new("/no/such/file"), system()).unwrap_err()[0].contains("cannot be read"));
    }

    #[tokio::test]
    async fn revoked_intention_is_noticed_whatever_else_is_unknown() {
        let file = file("a = ['b']");
        let intentions = Intentions::read(file.path(), system()).unwrap();
        let waiting = tokio::spawn({
            let intentions = intentions.clone();
            async move { intentions.revoked(&call("b", GET)).await }
        });
        tokio::task::yield_now().await;
        replace(&file, &intentions, "a = ['service_of_tomorrow']");
        waiting.await.unwrap();
    }
}
