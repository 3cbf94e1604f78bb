//! The gate of releases: a process that starts checks whether its builds fit what runs. It reports what does not,
//! or is not ready before they fit.
//!
//! It asks the passing instances of the services that its own ones call for their manifests, and those that call its
//! own. What it compares are contracts, and never health: a peer that is away holds nothing for longer than
//! `release.gate_limit`.
//!
//! Guarantees:
//! - A process looks each second until it fits what runs, and does not look again: what is deployed later has a gate of
//!   its own. One that serves and does not fit looks every 10 s after the limit.
//! - A mismatch that is proven holds; what cannot be asked within the limit does not.
//! - It holds no build that serves already, and no rollback: decision 0046.
//!
//! See: docs/operate/releases.md

mod ask;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use mesh_proto::mesh::inspect::v1::UnmetCall;
use mesh_release::gate::{exempt, is_later, unmet};
use mesh_release::{Build, Exempt, Running, Unmet};
use mesh_rpc::server::Health;
use mesh_rpc::telemetry::Metrics;
use mesh_runtime::executable;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::Common;
use crate::config::{GateMode, Gating};
use crate::release::Releases;
use ask::{Asks, Found, Known, within};

/// The interval of looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The interval of looks after the limit, of a process that serves and does not fit.
const LATER: Duration = Duration::from_secs(10);
/// The most differences that a look keeps.
const MOST: usize = 100;

/// The gate of a process.
pub(crate) struct ReleaseGate {
    gating: Gating,
    releases: Arc<Releases>,
    /// Whether a later program has migrated a database of the process.
    is_newer: bool,
    health: Health,
    metrics: Metrics,
    /// The differences that the log has.
    logged: Vec<Unmet>,
    asks: Asks,
}

impl ReleaseGate {
    /// The gate of a process that serves these releases; `None` if it is off, or if the process knows no other one.
    /// `is_newer`: a later program has migrated a database of the process.
    pub(crate) fn of(common: &Common<'_>, releases: Arc<Releases>, is_newer: bool) -> Option<Self> {
        let Common { config, health, metrics, .. } = common;
        let (discovery, transport) = (common.discovery.clone(), config.transport.clone());
        let asks = Asks { discovery, transport, metrics: metrics.tls.clone(), known: Known::default() };
        let (gating, health, metrics) = (config.gating, health.clone(), metrics.clone());
        let is_wanted = gating.mode != GateMode::Off && asks.discovery.has_others();
        is_wanted.then_some(Self { gating, releases, is_newer, health, metrics, logged: Vec::new(), asks })
    }

    /// Whether it holds the process before it has looked.
    pub(crate) fn holds(&self) -> bool {
        self.gating.mode == GateMode::Hold
    }

    /// Looks until the builds of the process fit what runs. Cancels `passed` as soon as nothing holds the process.
    pub(crate) async fn run(mut self, passed: CancellationToken) {
        let (builds, begun) = (self.releases.builds(), Instant::now());
        let own = match builds {
            Ok(own) => own,
            Err(why) => {
                tracing::warn!(%why, "release.gate compares nothing: this process has no manifest");
                return passed.cancel();
            }
        };
        let (mut ticks, mut held) = (interval(INTERVAL), Vec::new());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let look = self.look(&own).await;
            self.report(&look.unmet);
            let late = begun.elapsed() >= self.gating.limit;
            if !passed.is_cancelled() {
                match look.verdict(late) {
                    Verdict::Passes => Self::pass(&look, &passed),
                    Verdict::Held(why) if why != held => {
                        tracing::warn!(why = why.join("; "), "release.gate holds this process: it is not ready");
                        held.clone_from(&why);
                        self.health.hold(why);
                    }
                    Verdict::Held(_) => {}
                }
            }
            if look.unmet.is_empty() && (look.silent.is_empty() || late) {
                return self.done(&look);
            }
            if passed.is_cancelled() && late {
                sleep(LATER).await;
            }
        }
    }

    /// Looks once.
    async fn look(&mut self, own: &[Build]) -> Look {
        let names: Vec<_> = own.iter().map(|build| build.service().to_owned()).collect();
        let calls = own.iter().flat_map(|build| &build.manifest.calls);
        let follows = own.iter().flat_map(|build| &build.manifest.follows).map(|followed| &followed.source);
        let needed = calls.clone().filter(|call| !call.optional).map(|call| &call.peer).chain(follows.clone());
        let peers: BTreeSet<_> = calls.map(|call| &call.peer).chain(follows).cloned().collect();
        let needed = needed.cloned().collect();
        let Found { running, silent, foreign } = self.asks.others(peers, &needed, &names).await;
        let mut look = Look { silent, foreign, ..Look::default() };
        for build in own {
            let (same, exempt) = self.same(build).await;
            let all: Vec<_> = running.iter().cloned().chain(same).collect();
            let found = unmet(build, &all);
            if exempt.is_none() {
                look.holding.extend(found.iter().filter(|unmet| !unmet.as_before).map(|unmet| unmet.why.clone()));
            }
            look.exempt = look.exempt.or(exempt);
            look.unmet.extend(found);
        }
        self.asks.known.end_look();
        look.unmet.truncate(MOST);
        look.holding.truncate(MOST);
        look
    }

    /// The builds of its own service that serve, and whether one of its instances exempts a build.
    async fn same(&mut self, own: &Build) -> (Vec<Running>, Option<Exempt>) {
        let service = own.service();
        // A failure of Consul is reported for the peers.
        let seen = within(self.asks.discovery.look(service)).await.unwrap_or_default();
        let digest = executable::digest().await;
        // Only a process that has passed is registered. It may be an earlier run at this address.
        let is_registered = digest.is_some() && seen.iter().any(|seen| seen.digest.as_deref() == digest);
        let is_later =
            |version: &Option<String>| version.as_ref().is_some_and(|version| is_later(version, &own.manifest.version));
        let is_replaced = self.is_newer || seen.iter().any(|seen| is_later(&seen.version));
        let asked: Vec<_> = seen.into_iter().filter(|seen| seen.is_passing != Some(false)).collect();
        let serves = join_all(asked.iter().map(|seen| self.asks.serves(service, seen))).await;
        // One that is held answers, too, and so does this process.
        let serving: Vec<_> =
            asked.into_iter().zip(serves).filter(|(_, serves)| *serves).map(|(seen, _)| seen).collect();
        let mut found = Found::default();
        let answers = self.asks.ask(service, &serving).await;
        self.asks.keep(service, answers, &mut found);
        let builds = || found.running.iter().map(|running| &running.build);
        let exempt = exempt(own, builds(), builds())
            .or(is_registered.then_some(Exempt::Serves))
            .or(is_replaced.then_some(Exempt::GoesBack));
        (found.running, exempt)
    }

    /// Reports what does not fit: new differences, and those that are gone, to the log; all to the metrics and the
    /// inspect API.
    fn report(&mut self, found: &[Unmet]) {
        if self.logged == found {
            return;
        }
        let has = |all: &[Unmet], one: &Unmet| all.iter().any(|it| it.why == one.why);
        for Unmet { service, peer, method, why, .. } in found.iter().filter(|one| !has(&self.logged, one)) {
            tracing::warn!(service, peer, method, "this build does not fit what runs: {why}");
        }
        for Unmet { service, peer, method, .. } in self.logged.iter().filter(|one| !has(found, one)) {
            tracing::info!(service, peer, method, "this build fits what runs there by now");
        }
        let shown = |Unmet { caller, peer, method, why, .. }: &Unmet| UnmetCall {
            caller: caller.clone(),
            peer: peer.clone(),
            method: method.clone(),
            why: why.clone(),
        };
        self.metrics.set_unmet(found.iter().map(shown).collect());
        self.logged = found.to_vec();
    }

    /// Lets a process serve that was held.
    fn pass(look: &Look, passed: &CancellationToken) {
        match look.exempt.filter(|_| look.unmet.iter().any(|unmet| !unmet.as_before)) {
            Some(Exempt::Serves) => tracing::warn!("release.gate holds no build that serves already"),
            Some(Exempt::GoesBack) => tracing::warn!("release.gate holds no rollback: a later build was here"),
            None => tracing::info!("release.gate passed: the process serves"),
        }
        passed.cancel();
    }

    /// Logs what was not compared.
    fn done(&self, Look { silent, foreign, .. }: &Look) {
        if !silent.is_empty() {
            let (silent, limit) = (joined(silent), self.gating.limit);
            match self.gating.mode {
                GateMode::Hold => {
                    tracing::warn!(silent, ?limit, "release.gate has not compared this build with all that runs")
                }
                // Processes of a mesh that start together, and one that is tried alone.
                _ => tracing::info!(silent, ?limit, "release.gate has not compared this build with all that runs"),
            }
        }
        if !foreign.is_empty() {
            tracing::debug!(services = joined(foreign), "these services have no manifest");
        }
    }
}

/// Lets a process begin its `work` and report its health: at once, or once the gate that holds it has passed. The token
/// that it returns is cancelled then.
///
/// # Errors
///
/// Those of the work, if the process is not held.
pub(crate) async fn open<E: Display>(
    gate: Option<ReleaseGate>,
    work: impl Future<Output = Result<(), E>> + Send + 'static,
    common: &Common<'_>,
) -> Result<CancellationToken, E> {
    let Common { foreground, background, draining, .. } = common;
    let (health, open) = (common.health.clone(), CancellationToken::new());
    let gate = match gate {
        Some(gate) if gate.holds() => gate,
        gate => {
            work.await?;
            health.started();
            open.cancel();
            if let Some(gate) = gate {
                background.run(gate.run(open.clone()));
            }
            return Ok(open);
        }
    };
    health.hold(vec!["release.gate has not looked yet".to_owned()]);
    let (passed, opened, draining) = (CancellationToken::new(), open.clone(), draining.clone());
    background.run(gate.run(passed.clone()));
    foreground.run(async move {
        if draining.run_until_cancelled(passed.cancelled()).await.is_none() {
            return;
        }
        // Not before: it would call what its peers do not have.
        if let Err(why) = work.await {
            tracing::error!(%why, "the process cannot begin its work: restart it");
            return health.hold(vec![format!("it cannot begin its work: {why}")]);
        }
        health.started();
        opened.cancel();
    });
    Ok(open)
}

/// What a look has found.
#[derive(Default)]
struct Look {
    unmet: Vec<Unmet>,
    /// What holds the process, a sentence each.
    holding: Vec<String>,
    exempt: Option<Exempt>,
    silent: BTreeSet<String>,
    foreign: BTreeSet<String>,
}

/// Whether a process that is held passes.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    /// Why it stays held.
    Held(Vec<String>),
}

impl Look {
    /// `late`: what cannot be asked does not hold any more.
    fn verdict(&self, late: bool) -> Verdict {
        if !self.holding.is_empty() {
            return Verdict::Held(self.holding.clone());
        }
        if self.silent.is_empty() || late || self.exempt.is_some() {
            return Verdict::Passes;
        }
        Verdict::Held(vec![format!("release.gate waits for an answer: {}", joined(&self.silent))])
    }
}

fn joined(all: &BTreeSet<String>) -> String {
    all.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proven_mismatch_holds_for_any_time_and_silence_until_the_limit() {
        let silent = || BTreeSet::from(["catalog has no instance that passes".to_owned()]);
        let held = |why: &str| Verdict::Held(vec![why.to_owned()]);
        let look = Look::default();
        assert_eq!([false, true].map(|late| look.verdict(late)), [Verdict::Passes, Verdict::Passes]);
        let look = Look { silent: silent(), ..Look::default() };
        let waits = held("release.gate waits for an answer: catalog has no instance that passes");
        assert_eq!([false, true].map(|late| look.verdict(late)), [waits, Verdict::Passes]);
        let look = Look { silent: silent(), exempt: Some(Exempt::GoesBack), ..Look::default() };
        assert_eq!(look.verdict(false), Verdict::Passes, "a rollback does not wait");
        let look = Look { holding: vec!["it lacks".to_owned()], silent: silent(), ..Look::default() };
        assert_eq!([false, true].map(|late| look.verdict(late)), [held("it lacks"), held("it lacks")]);
    }
}
