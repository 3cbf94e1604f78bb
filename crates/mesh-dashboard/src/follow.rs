//! Follows all processes while a page is open, and sends what has changed to all pages, once a second.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, interval, sleep};

use crate::hub::Hub;
use crate::known::Followed;
use crate::member;
use crate::members::Listed;
use crate::state::Section;
use crate::work;

/// The time between two updates of a page.
const TICK: Duration = Duration::from_secs(1);
/// The time between two questions which processes there are.
const LOOK: Duration = Duration::from_secs(2);
/// The time between two looks whether all have answered.
const SETTLING: Duration = Duration::from_millis(100);
/// Without a page for so long, nothing is followed.
pub(crate) const IDLE: Duration = Duration::from_secs(30);
/// A process that does not answer, and that discovery does not know, is shown for so long.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(600);

/// Follows while there are pages, until the future is dropped.
pub(crate) async fn run(hub: Arc<Hub>) {
    let mut pages = hub.pages();
    // The sender is in the hub.
    while pages.wait_for(|pages| *pages > 0).await.is_ok() {
        tokio::select! {
            () = follow(&hub) => {}
            () = unwatched(&mut pages) => {}
        }
        hub.forget();
    }
}

async fn follow(hub: &Arc<Hub>) {
    let mut following = Following::new(Arc::clone(hub));
    let mut ticks = interval(TICK);
    // In a task: an agent that hangs stops no update.
    let (mut looks, mut looked) = (JoinSet::new(), None::<Instant>);
    let mut settles = interval(SETTLING);
    loop {
        if looks.is_empty() && looked.is_none_or(|at| at.elapsed() >= LOOK) {
            let hub = Arc::clone(hub);
            looks.spawn(async move { hub.list().await });
        }
        tokio::select! {
            _ = ticks.tick() => {
                following.work();
                hub.tick();
            }
            Some(listed) = looks.join_next() => {
                looked = Some(Instant::now());
                following.found(listed.unwrap_or_default());
            }
            _ = settles.tick(), if looked.is_some() => hub.settle(),
            Some(_) = following.tasks.join_next() => {}
        }
    }
}

/// Returns when no page was open for [`IDLE`].
async fn unwatched(pages: &mut watch::Receiver<usize>) {
    loop {
        if pages.wait_for(|pages| *pages == 0).await.is_err() {
            return;
        }
        tokio::select! {
            () = sleep(IDLE) => return,
            _ = pages.wait_for(|pages| *pages > 0) => {}
        }
    }
}

/// The tasks that follow. A drop ends them.
struct Following {
    hub: Arc<Hub>,
    tasks: JoinSet<()>,
    /// By the id of the process.
    members: HashMap<String, AbortHandle>,
    /// The services whose long work is followed.
    work: HashSet<String>,
}

impl Following {
    fn new(hub: Arc<Hub>) -> Self {
        Self { hub, tasks: JoinSet::new(), members: HashMap::new(), work: HashSet::new() }
    }

    /// Follows what was found, and no longer what is gone for a while.
    fn found(&mut self, listed: Listed) {
        let mut known = self.hub.known();
        for member in &listed.members {
            let followed = known.entry(member.id.clone()).or_insert_with(|| Followed::new(member));
            followed.condition.services.clone_from(&member.services);
            followed.condition.checks.clone_from(&member.why);
            if !self.members.contains_key(&member.id) {
                let task = member::follow(Arc::clone(&self.hub), member.clone());
                self.members.insert(member.id.clone(), self.tasks.spawn(task));
            }
        }
        known.retain(|id, followed| {
            if listed.members.iter().any(|member| member.id == *id) {
                return true;
            }
            // Discovery adds processes. What removes one is its own silence: an agent that is away, and a process that has
            // deregistered and drains, are no reason.
            let condition = &followed.condition;
            let keep = condition.state.answers() || condition.lasts() < REMEMBERED;
            if !keep {
                self.members.remove(id).inspect(AbortHandle::abort);
            }
            keep
        });
        let mut state = self.hub.state();
        for section in [Section::Processes, Section::Edges, Section::Endpoints, Section::Followers] {
            state.remove(section, |key| !known.contains_key(key.split(' ').next().unwrap_or_default()));
        }
        let runs = |service: &str| {
            let mut services = known.values().flat_map(|followed| &followed.condition.process.services);
            services.any(|it| it.name == service)
        };
        state.remove(Section::Work, |key| !runs(key.split('/').nth(1).unwrap_or_default()));
        // Those of long work are kept.
        state
            .remove(Section::Notes, |key| !key.starts_with(work::NOTE) && !listed.notes.iter().any(|text| text == key));
        for text in listed.notes {
            state.put(Section::Notes, &*text, json!({"key": text, "text": text}));
        }
    }

    /// Follows the long work of services that are there.
    fn work(&mut self) {
        let known = self.hub.known();
        let answering = known.values().filter(|it| it.condition.state.answers());
        let services = answering.flat_map(|it| &it.condition.process.services).filter(|it| work::does(it));
        let new: Vec<_> = services.map(|it| it.name.clone()).filter(|name| !self.work.contains(name)).collect();
        drop(known);
        for service in new {
            self.tasks.spawn(work::follow(Arc::clone(&self.hub), service.clone()));
            self.work.insert(service);
        }
    }
}
