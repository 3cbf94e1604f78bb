//! A Consul agent: its client, its backoff, and the log of its outages.
//!
//! Several tasks call the agent and retry independently. The log reports an outage once, and its end once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consul_api_client::{Client, Error};
use mesh_runtime::{Backoff, Tasks};
use tokio::time::{Instant, sleep};

use super::settings::Consul;

/// How long the agent holds a blocking query without a change. A stopped agent accepts connections and never answers:
/// this wait bounds its detection.
pub(super) const QUERY_WAIT: Duration = Duration::from_secs(10);
/// The limit for an answer, beyond the wait of a blocking query. The agent runs on the same machine.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause after a transient error. The longest pause bounds how late the return of an agent is noticed.
const UNAVAILABLE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1)).jitter(0.5..1.0);
/// The time without a failure after which earlier ones do not count: longer than any pause.
const FORGIVEN: Duration = Duration::from_secs(20);
/// The pause after a refusal, which an operator has to fix.
const REFUSED_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10)).jitter(0.5..1.0);

/// A Consul agent. Cheap to clone.
#[derive(Clone)]
pub(super) struct Agent(Arc<AgentInner>);

struct AgentInner {
    client: Client,
    address: String,
    token_origin: String,
    tasks: Tasks,
    /// The purposes of the requests that fail while the agent is unavailable.
    failing: Mutex<BTreeSet<String>>,
}

impl Agent {
    pub(super) fn new(config: &Consul, tasks: Tasks) -> anyhow::Result<Self> {
        let mut builder = Client::builder(format!("http://{}", config.agent)).timeout(REQUEST_TIMEOUT);
        if let Some(token) = &config.token {
            builder = builder.token(token);
        }
        Ok(Self(Arc::new(AgentInner {
            client: builder.build()?,
            address: config.agent.to_string(),
            token_origin: config.token_origin.clone(),
            tasks,
            failing: Mutex::default(),
        })))
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// The attempts of one task. `purpose` completes the sentence "Consul does not let us …".
    pub(super) fn attempts(&self, purpose: String) -> Attempts {
        Attempts { agent: self.clone(), purpose, rule: None, outages: 0, refusals: 0, failed: None, refused: None }
    }

    /// The source of the token, for the log.
    pub(super) fn token_origin(&self) -> &str {
        &self.0.token_origin
    }

    fn failing(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The attempts of one task at a request.
pub(super) struct Attempts {
    agent: Agent,
    purpose: String,
    /// The permission that the requests need. `None`: Consul names it.
    rule: Option<String>,
    /// Transient errors and refusals, which have separate backoffs. They count until nothing has failed for
    /// [`FORGIVEN`]: an agent that answers some requests of a task and fails others must not be asked without a pause.
    outages: u32,
    refusals: u32,
    /// The time of the last failure.
    failed: Option<Instant>,
    /// The refusal of the last attempt.
    refused: Option<String>,
}

impl Attempts {
    /// Names the permission that the requests need, for the log.
    pub(super) fn needing(self, rule: String) -> Self {
        Self { rule: Some(rule), ..self }
    }

    /// Records a successful request.
    pub(super) fn succeeded(&mut self) {
        self.refused = None;
        if self.failed.is_some_and(|failed| failed.elapsed() > FORGIVEN) {
            (self.outages, self.refusals, self.failed) = (0, 0, None);
        }
        self.report_recovery();
    }

    /// Records a failed request, logs an error that is new, and pauses before the next attempt.
    pub(super) async fn failed(&mut self, error: &Error) {
        sleep(self.record(error)).await;
    }

    /// Returns the pause before the next attempt.
    fn record(&mut self, error: &Error) -> Duration {
        self.failed = Some(Instant::now());
        if error.is_transient() {
            self.outages += 1;
            self.refused = None;
            self.report_outage(error);
            return UNAVAILABLE_BACKOFF.pause(self.outages);
        }
        self.refusals += 1;
        // A refusal shows that the agent is available. What cannot be read may be of another program.
        if !is_foreign(error) {
            self.report_recovery();
        }
        let before = self.refused.replace(error.to_string());
        if before != self.refused {
            self.report_refusal(error);
        }
        REFUSED_BACKOFF.pause(self.refusals)
    }

    fn report_outage(&self, error: &Error) {
        let first = {
            let mut failing = self.agent.failing();
            failing.insert(self.purpose.clone()) && failing.len() == 1
        };
        if first {
            tracing::warn!(%error, "Consul is away: serving without it and retrying (registry = \"local\" needs no Consul)");
        }
    }

    fn report_recovery(&self) {
        let mut failing = self.agent.failing();
        if failing.remove(&self.purpose) && failing.is_empty() {
            tracing::info!(agent = self.agent.0.address, "Consul is back");
        }
    }

    fn report_refusal(&self, error: &Error) {
        let Self { agent, purpose, .. } = self;
        match error {
            Error::Permission { .. } => {
                let rule = self.rule.clone().or_else(|| error.missing_rule());
                let rule = rule.unwrap_or_else(|| "unknown: Consul does not name it".to_owned());
                tracing::error!(%error, rule, token = agent.token_origin(), "Consul does not let us {purpose}");
            }
            _ if is_foreign(error) => tracing::error!(%error, "cannot {purpose}: the answer is not one of Consul"),
            _ => tracing::error!(%error, "Consul does not let us {purpose}"),
        }
    }
}

/// Whether an answer is none of Consul.
fn is_foreign(error: &Error) -> bool {
    matches!(error, Error::Undecodable { .. } | Error::TooLarge { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        let agent = "127.0.0.1:1".parse().unwrap();
        let consul = Consul { agent, token: None, token_origin: "none".to_owned() };
        Agent::new(&consul, Tasks::default()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn agent_has_separate_backoffs_for_outages_and_refusals() {
        let agent = agent();
        let unavailable = Error::Timeout { address: String::new(), limit: REQUEST_TIMEOUT };
        let refused = Error::Permission { request: String::new(), message: String::new() };
        let (mut one, mut other) = (agent.attempts("one".to_owned()), agent.attempts("other".to_owned()));
        for _ in 0..20 {
            one.record(&unavailable);
        }
        other.record(&unavailable);
        assert_eq!(agent.failing().len(), 2);
        assert!(one.record(&refused) <= UNAVAILABLE_BACKOFF.ceiling(1), "refusals have their own count");
        other.succeeded();
        assert!(agent.failing().is_empty(), "the outage is over");
        sleep(FORGIVEN * 2).await;
        one.succeeded();
        assert!(one.record(&unavailable) <= UNAVAILABLE_BACKOFF.ceiling(1), "the count begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn agent_that_fails_between_successes_or_refusals_is_asked_with_longer_pauses() {
        let agent = agent();
        let unavailable = Error::Timeout { address: String::new(), limit: REQUEST_TIMEOUT };
        let refused = Error::Permission { request: String::new(), message: String::new() };
        let mut refuses = agent.attempts("both".to_owned());
        let failures = [&unavailable, &refused].into_iter().cycle().take(40);
        let pauses: Vec<_> = failures.map(|error| refuses.record(error)).collect();
        assert!(pauses[38] >= UNAVAILABLE_BACKOFF.ceiling(20) / 2, "{pauses:?}");
        assert!(pauses[39] >= REFUSED_BACKOFF.ceiling(20) / 2, "{pauses:?}");

        let mut succeeds = agent.attempts("some".to_owned());
        let pauses = (0..20).map(|_| {
            succeeds.succeeded();
            succeeds.record(&unavailable)
        });
        assert!(pauses.last() >= Some(UNAVAILABLE_BACKOFF.ceiling(20) / 2));
    }
}
