//! What is known of the mesh, for all pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mesh_proto::mesh::inspect::v1::Service;
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, watch};
use tokio::time::timeout;

use crate::known::{Followed, Reachability, now};
use crate::members::{Channel, Listed, Members};
use crate::rows;
use crate::settings::Mode;
use crate::state::{Section, State};

/// A new page waits so long for the first answers.
const SETTLES: Duration = Duration::from_secs(3);
/// The pages that may be open: less than half of the connections of `admin.listen`, which probes need.
const PAGES: usize = 24;
/// Pages that are so many updates behind get the whole state again.
const BEHIND: usize = 16;

/// The process that serves the page.
#[derive(Clone, Debug)]
pub struct Own {
    /// The process, such as monolith.
    pub process: String,
    /// Its version.
    pub version: String,
    /// How it finds others: local, static, dns or consul.
    pub registry: String,
    /// Other pages of the process, with their names.
    pub links: Vec<(String, String)>,
}

/// What is known of the mesh. All pages share it.
pub(crate) struct Hub {
    members: Box<dyn Members>,
    own: Own,
    mode: Mode,
    /// By the id of the process.
    known: Mutex<BTreeMap<String, Followed>>,
    state: Mutex<State>,
    changes: broadcast::Sender<Bytes>,
    pages: watch::Sender<usize>,
    /// Whether each process that was found has answered, or was given up once: before that, much looks as if it were down.
    settled: watch::Sender<bool>,
    since: u64,
}

/// A reader with an open page. While there is one, the hub follows.
pub(crate) struct Reader(Arc<Hub>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.pages.send_modify(|pages| *pages -= 1);
    }
}

impl Hub {
    pub(crate) fn new(members: Box<dyn Members>, own: Own, mode: Mode) -> Arc<Self> {
        Arc::new(Self {
            members,
            own,
            mode,
            known: Mutex::default(),
            state: Mutex::default(),
            changes: broadcast::Sender::new(BEHIND),
            pages: watch::Sender::new(0),
            settled: watch::Sender::new(false),
            since: now(),
        })
    }

    /// Opens a page, with what it needs to follow. `None`: too many are open.
    pub(crate) fn open(self: &Arc<Self>) -> Option<(Reader, broadcast::Receiver<Bytes>)> {
        let opened = self.pages.send_if_modified(|pages| {
            let opens = *pages < PAGES;
            *pages += usize::from(opens);
            opens
        });
        opened.then(|| (Reader(Arc::clone(self)), self.changes.subscribe()))
    }

    /// How many pages are open.
    pub(crate) fn pages(&self) -> watch::Receiver<usize> {
        self.pages.subscribe()
    }

    /// The processes that are found now.
    pub(crate) async fn list(&self) -> Listed {
        self.members.list().await
    }

    /// Forgets all, when no page is open any more.
    pub(crate) fn forget(&self) {
        self.known().clear();
        *self.state() = State::default();
        self.settled.send_replace(false);
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The processes, by their ids.
    pub(crate) fn known(&self) -> MutexGuard<'_, BTreeMap<String, Followed>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of the page. Taken after [`known`](Self::known), if both are.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is something to show, but for at most [`SETTLES`].
    pub(crate) async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        let _ = timeout(SETTLES, settled.wait_for(|settled| *settled)).await;
    }

    /// Notes that the processes were found, and sends what has changed.
    pub(crate) fn settle(&self) {
        if *self.settled.borrow() {
            return;
        }
        let asks = self.known().values().any(|followed| followed.condition.state == Reachability::Asked);
        if !asks {
            self.tick();
            self.settled.send_replace(true);
        }
    }

    /// The whole state, as JSON.
    pub(crate) fn whole(&self) -> Bytes {
        let mut whole = self.state().whole(now());
        whole.insert(
            "hub".to_owned(),
            json!({
                "process": self.own.process, "version": self.own.version, "registry": self.own.registry, "since": self.since,
                "links": self.own.links.iter().map(|(url, name)| json!({"url": url, "name": name})).collect::<Vec<_>>(),
                "mode": if self.mode == Mode::Call { "call" } else { "read" },
            }),
        );
        encoded(whole)
    }

    /// The processes that are there, with their ids: how to call one, or why it does not answer. Without an open page, all that
    /// are found.
    pub(crate) async fn asked(&self) -> Vec<(String, Result<Channel, String>)> {
        let of = |followed: &Followed| match followed.condition.state.answers() {
            true => Ok(followed.channel.clone()),
            false => Err(followed.condition.why.clone()),
        };
        let known: Vec<_> = self
            .known()
            .iter()
            .filter(|(_, followed)| followed.condition.state.is_there())
            .map(|(id, followed)| (id.clone(), of(followed)))
            .collect();
        if !known.is_empty() {
            return known;
        }
        self.list().await.members.into_iter().map(|member| (member.id, Ok(member.channel))).collect()
    }

    /// The processes that answer and serve a contract; all that answer, if none says so.
    pub(crate) async fn serving_contract(&self, contract: &str) -> Vec<Channel> {
        let known = self.running(|service| service.contracts.iter().any(|own| own == contract));
        if !known.is_empty() {
            return known;
        }
        self.asked().await.into_iter().filter_map(|(_, channel)| channel.ok()).collect()
    }

    /// An instance of a service that answers.
    pub(crate) fn serving(&self, service: &str) -> Option<Channel> {
        self.running(|it| it.name == service).into_iter().next()
    }

    /// The processes that answer and run such a service.
    fn running(&self, is: impl Fn(&Service) -> bool) -> Vec<Channel> {
        let known = self.known();
        let answering = known.values().filter(|followed| followed.condition.state.answers());
        let running = answering.filter(|followed| followed.condition.process.services.iter().any(&is));
        running.map(|followed| followed.channel.clone()).collect()
    }

    /// Sends what has changed.
    pub(crate) fn tick(&self) {
        let known = self.known();
        let services = rows::services(known.values().map(|it| (&it.condition, &it.health)));
        let declared = rows::declared(known.values().map(|it| &it.condition));
        let mut state = self.state();
        state.replace(Section::Services, services);
        state.replace(Section::Declared, declared);
        drop(known);
        let changes = state.changes(now());
        drop(state);
        // Also without a change: pages know by it that the hub is there. Without a receiver it is not needed.
        let _ = self.changes.send(encoded(changes));
    }
}

fn encoded(state: Map<String, Value>) -> Bytes {
    Value::Object(state).to_string().into()
}
