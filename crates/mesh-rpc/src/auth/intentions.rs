//! Intentions: which services may call which, and what of it, in a file that may be replaced while the process runs, or
//! in Consul.
//!
//! Guarantees:
//! - A service that is not named is called by no other one.
//! - A change is in force a second after it was written, at the latest, also for open streams.
//! - A file that cannot be used leaves the intentions in use, with one warning. So does one that is being written: it
//!   counts once two reads have found the same, and not without a line.
//! - What a new file names and this process does not know allows nothing: services are replaced one by one. The log
//!   says it of a file that changes something.
//! - Those of Consul stay in use while it is away. Before it has answered, no service may call another one.
//! - Reflection is not restricted.
//!
//! `table` has the rules, and `file` and `consul` read them.

mod consul;
mod file;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use consul_api_client::intentions::Intention;
use tokio::sync::watch;
use tokio::time::timeout;

pub(super) use self::table::Intended;
pub use self::table::System;
use self::table::Table;
use crate::call::Method;
use crate::reread::reread;
use crate::telemetry::DASHBOARD;

/// The interval at which the file is read again. A new file counts once two reads have found the same.
const READ: Duration = Duration::from_millis(300);
/// The time that a start gives Consul to answer. Most have the answer before they have opened their databases.
const FIRST_ANSWER: Duration = Duration::from_secs(1);

/// The callers that every system knows beside its services: a gateway, a process of several services, the command
/// `mesh`, and the dashboard of a process, which calls in memory.
pub const KNOWN_CALLERS: [&str; 4] = ["gateway", "monolith", "mesh", DASHBOARD];

/// The intentions in use. Cheap to clone; the clones share them.
#[derive(Clone, Debug)]
pub struct Intentions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: Source,
    system: System,
    table: watch::Sender<Arc<Table>>,
    /// The unknown callers that the log has.
    strangers: Mutex<String>,
}

/// Where intentions are.
#[derive(Debug)]
enum Source {
    File {
        path: PathBuf,
        /// What was read last.
        last: Mutex<Option<Table>>,
    },
    Consul(watch::Sender<Answer>),
}

/// What Consul has last answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing yet.
    None,
    /// Never intentions, and why.
    Never(String),
    /// Intentions, with what is not understood of them.
    Intentions(BTreeSet<String>),
    /// No intentions any more, and why. The last ones are in use.
    NoLonger(String),
}

impl Intentions {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// All of its mistakes, each as the end of a sentence that the key begins.
    pub fn read(path: &Path, system: System) -> Result<Self, Vec<String>> {
        let (table, mistakes) = file::read(path, &system).map_err(|mistake| vec![mistake])?;
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let source = Source::File { path: path.to_owned(), last: Mutex::default() };
        Ok(Self::of(source, system, table))
    }

    /// Those of Consul, which discovery sets.
    pub fn in_consul(system: System) -> Self {
        Self::of(Source::Consul(watch::Sender::new(Answer::None)), system, Table::default())
    }

    fn of(source: Source, system: System, table: Table) -> Self {
        let table = watch::Sender::new(Arc::new(table));
        Self(Arc::new(Shared { source, system, table, strangers: Mutex::default() }))
    }

    /// Reads the file again and again, and uses what is new. Never returns.
    pub async fn renew(self) {
        match &self.0.source {
            Source::File { .. } => reread(READ, "intentions", move || self.read_again()).await,
            Source::Consul(_) => pending().await,
        }
    }

    fn read_again(&self) -> Result<(), String> {
        let Source::File { path, last } = &self.0.source else { return Ok(()) };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file::read(path, &self.0.system);
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

    /// The services whose intentions are read in Consul: those of this process, and the process itself. `None` for a
    /// file.
    pub(crate) fn asked_of_consul(&self) -> Option<Vec<&'static str>> {
        let System { process, local, .. } = &self.0.system;
        let others = local.iter().filter(|service| *service != process);
        matches!(self.0.source, Source::Consul(_)).then(|| others.chain([process]).copied().collect())
    }

    /// Uses what Consul has answered, by the service that is called.
    pub(crate) fn answered(&self, found: BTreeMap<String, Vec<Intention>>) {
        let Source::Consul(answer) = &self.0.source else { return };
        let is_empty = found.values().all(Vec::is_empty);
        let (new, unknown) = consul::table(found);
        let is_new = new != **self.0.table.borrow();
        if is_new {
            self.0.table.send_replace(Arc::new(new));
        }
        let before = answer.send_replace(Answer::Intentions(unknown.clone()));
        let is_first = matches!(before, Answer::None | Answer::Never(_));
        if is_empty && (is_first || is_new) {
            tracing::warn!("Consul has no intention for calls of this process: no service may call it");
        } else if is_first || is_new {
            tracing::info!("the intentions of Consul are in use");
        }
        self.warn_of_strangers();
        if !unknown.is_empty() && before != Answer::Intentions(unknown.clone()) {
            let unknown = unknown.into_iter().collect::<Vec<_>>().join("; ");
            tracing::warn!(unknown, "what mesh does not understand of the intentions of Consul allows nothing");
        }
    }

    fn warn_of_strangers(&self) {
        let strangers = self.strangers();
        let mut warned = self.0.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if !strangers.is_empty() && *warned != strangers {
            tracing::warn!(
                callers = strangers,
                "intentions of Consul name callers that this process does not know, and decide nothing if these are \
                 mistyped: correct them, or name apps without a contract in sidecar.peers"
            );
        }
        *warned = strangers;
    }

    /// The callers that are no service and no process of the system.
    fn strangers(&self) -> String {
        let table = self.0.table.borrow();
        let strangers = table.callers().into_iter().filter(|caller| !self.0.system.names.contains(caller));
        strangers.collect::<Vec<_>>().join(", ")
    }

    /// Keeps those in use, although Consul did not answer, or not with intentions.
    pub(crate) fn unanswered(&self, why: String) {
        let Source::Consul(answer) = &self.0.source else { return };
        answer.send_modify(|answer| {
            *answer = match answer {
                Answer::None | Answer::Never(_) => Answer::Never(why),
                Answer::Intentions(_) | Answer::NoLonger(_) => Answer::NoLonger(why),
            };
        });
    }

    /// Why there are none, if so: no service may call another one.
    pub(crate) fn missing(&self) -> Option<String> {
        let Source::Consul(answer) = &self.0.source else { return None };
        match &*answer.borrow() {
            Answer::None => Some("Consul has not answered yet".to_owned()),
            Answer::Never(why) => Some(why.clone()),
            Answer::Intentions(_) | Answer::NoLonger(_) => None,
        }
    }

    /// Why those in use may be old.
    pub(crate) fn stale(&self) -> Option<String> {
        let Source::Consul(answer) = &self.0.source else { return None };
        match &*answer.borrow() {
            Answer::NoLonger(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Waits for the first answer of Consul, or a failure, for a second at most.
    pub async fn settled(&self) {
        let Source::Consul(answer) = &self.0.source else { return };
        let mut answer = answer.subscribe();
        // The sender lives as long as this.
        let _ = timeout(FIRST_ANSWER, answer.wait_for(|answer| *answer != Answer::None)).await;
    }

    /// Whether the file, as far as it says, refuses calls of `service` to another one. A file with services of this
    /// process alone says nothing of others, and Consul is not asked for theirs.
    pub fn refuse(&self, service: &str, called: &'static str, method: &'static Method) -> bool {
        let (table, local) = (self.0.table.borrow(), &self.0.system.local);
        let is_local = |name: &str| local.contains(&name);
        let says = match self.0.source {
            Source::File { .. } => is_local(called) || table.0.keys().any(|name| !is_local(name)),
            Source::Consul(_) => false,
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Methods;

    const GET: &str = "google.longrunning.Operations/GetOperation";

    fn system() -> System {
        System { process: "a", names: ["a", "b", "gateway"].into(), methods: Methods::of(&[]), local: vec!["a"] }
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

    fn allowed_by_consul(source: &str) -> BTreeMap<String, Vec<Intention>> {
        let found =
            serde_json::json!({"SourceName": source, "DestinationName": "a", "Action": "allow", "Precedence": 9});
        BTreeMap::from([("a".to_owned(), vec![serde_json::from_value(found).unwrap()])])
    }

    #[tokio::test(start_paused = true)]
    async fn intentions_of_consul_are_missing_until_it_answers() {
        let intentions = Intentions::in_consul(System { process: "monolith", ..system() });
        assert_eq!(intentions.asked_of_consul(), Some(vec!["a", "monolith"]));
        let allowed = |service| intentions.allow(&call(service, GET));
        assert!(!allowed("b") && allowed("a"), "a service calls itself");
        let waiting = tokio::time::Instant::now();
        intentions.settled().await;
        assert_eq!(
            (waiting.elapsed(), intentions.missing().as_deref()),
            (FIRST_ANSWER, Some("Consul has not answered yet"))
        );

        intentions.unanswered("it is away".to_owned());
        intentions.settled().await;
        assert_eq!((waiting.elapsed(), intentions.missing().as_deref()), (FIRST_ANSWER, Some("it is away")));
        intentions.answered(allowed_by_consul("b"));
        assert!(allowed("b") && intentions.missing().is_none());
        intentions.unanswered("it is away".to_owned());
        assert!(allowed("b") && intentions.missing().is_none(), "the last ones hold");
        assert_eq!(intentions.stale().as_deref(), Some("it is away"));

        let waiting = tokio::spawn({
            let intentions = intentions.clone();
            async move { intentions.revoked(&call("b", GET)).await }
        });
        tokio::task::yield_now().await;
        intentions.answered(allowed_by_consul("gateway"));
        waiting.await.unwrap();
        assert!(!allowed("b") && allowed("gateway"));
        intentions.answered(BTreeMap::new());
        assert!(!allowed("gateway") && intentions.missing().is_none(), "none at all is an answer");
    }

    #[test]
    fn strangers_are_the_callers_that_the_system_does_not_have() {
        let intentions = Intentions::in_consul(system());
        let found = ["b", "z", "y", "*"].map(|source| allowed_by_consul(source).remove("a").unwrap());
        intentions.answered(BTreeMap::from([("a".to_owned(), found.concat())]));
        assert_eq!(intentions.strangers(), "y, z");
    }

    #[test]
    fn answer_without_intentions_is_an_answer() {
        let intentions = Intentions::in_consul(system());
        intentions.answered(BTreeMap::from([("a".to_owned(), Vec::new())]));
        assert_eq!(intentions.missing(), None);
        assert!(!intentions.allow(&call("b", GET)));
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
