//! What is known of the mesh, for all pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, watch};

use crate::known::{Answering, Followed, now};
use crate::members::{Channel, Listed, Members};
use crate::rows;
use crate::settings::Mode;
use crate::state::{Section, State};

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
    since: u64,
}

/// An open page. While there is one, the hub follows.
pub(crate) struct Page(Arc<Hub>);

impl Drop for Page {
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
            since: now(),
        })
    }

    /// Opens a page, with what it needs to follow.
    pub(crate) fn open(self: &Arc<Self>) -> (Page, broadcast::Receiver<Bytes>) {
        self.pages.send_modify(|pages| *pages += 1);
        (Page(Arc::clone(self)), self.changes.subscribe())
    }

    /// How many pages are open.
    pub(crate) fn pages(&self) -> watch::Receiver<usize> {
        self.pages.subscribe()
    }

    /// The processes that are found now.
    pub(crate) async fn list(&self) -> Listed {
        self.members.list().await
    }

    /// Forgets all, when nobody looks any more.
    pub(crate) fn forget(&self) {
        self.known().clear();
        *self.state() = State::default();
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

    /// The whole state, as JSON.
    pub(crate) fn whole(&self) -> Bytes {
        let mut whole = self.state().whole(now());
        whole.insert(
            "hub".to_owned(),
            json!({
                "process": self.own.process, "version": self.own.version, "registry": self.own.registry, "since": self.since,
                "mode": if self.mode == Mode::Call { "call" } else { "read" },
            }),
        );
        encoded(whole)
    }

    /// The processes that can be asked now, with their ids: those that answer, or without an open page all that are found.
    pub(crate) async fn asked(&self) -> Vec<(String, Channel)> {
        let known: Vec<_> = self
            .known()
            .iter()
            .filter(|(_, followed)| followed.condition.state != Answering::Gone)
            .map(|(id, followed)| (id.clone(), followed.channel.clone()))
            .collect();
        if !known.is_empty() {
            return known;
        }
        self.list().await.members.into_iter().map(|member| (member.id, member.channel)).collect()
    }

    /// An instance of a service that answers.
    pub(crate) fn serving(&self, service: &str) -> Option<Channel> {
        let known = self.known();
        let mut serving = known.values().filter(|it| {
            it.condition.state.answers() && it.condition.process.services.iter().any(|it| it.name == service)
        });
        serving.next().map(|it| it.channel.clone())
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
        if let Some(changes) = state.changes(now()) {
            drop(state);
            // Without a receiver it is not needed.
            let _ = self.changes.send(encoded(changes));
        }
    }
}

fn encoded(state: Map<String, Value>) -> Bytes {
    Value::Object(state).to_string().into()
}
