//! One agent of Consul, and what people are told of it.
//!
//! Several tasks talk to it, each again and again. When it goes away all of them fail, again and again; what somebody
//! who reads the log wants to know is that it went, why, and that it is back.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use consul_api_client::{Client, Error};
use mesh_runtime::{Backoff, Tasks};
use tokio::time::sleep;

use super::settings::Consul;

/// How long a question waits for something to change. Short, because an agent that stands still (it accepts
/// connections, and answers nothing) is only noticed when this is over.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// How long an agent, which is on the same machine, may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// After failures that pass by themselves: an agent that comes back is found within the longest pause.
const AWAY: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1)).jitter(0.5..1.0);
/// After refusals, which an operator has to mend.
const REFUSED: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10)).jitter(0.5..1.0);

/// An agent. Cheap to clone.
#[derive(Clone)]
pub(super) struct Agent(Arc<Shared>);

struct Shared {
    client: Client,
    address: String,
    token_origin: String,
    tasks: Tasks,
    /// What cannot be done at present because the agent does not answer.
    waiting: Mutex<BTreeSet<String>>,
}

impl Agent {
    pub(super) fn new(config: &Consul, tasks: Tasks) -> anyhow::Result<Self> {
        let mut builder = Client::builder(format!("http://{}", config.agent)).timeout(ANSWER);
        if let Some(token) = &config.token {
            builder = builder.token(token);
        }
        Ok(Self(Arc::new(Shared {
            client: builder.build()?,
            address: config.agent.to_string(),
            token_origin: config.token_origin.clone(),
            tasks,
            waiting: Mutex::default(),
        })))
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// For one of the tasks that talk to it; `purpose` finishes the sentence "Consul does not let us …".
    pub(super) fn attempts(&self, purpose: String) -> Attempts {
        Attempts { agent: self.clone(), purpose, failures: 0, refused: None }
    }

    /// Where the token comes from that it is asked with.
    pub(super) fn token_origin(&self) -> &str {
        &self.0.token_origin
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one task has tried.
pub(super) struct Attempts {
    agent: Agent,
    purpose: String,
    /// In a row.
    failures: u32,
    refused: Option<String>,
}

impl Attempts {
    /// The agent has done what it was asked for.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.refused = None;
        self.answered();
    }

    /// It has not, or not as was hoped for. Tells people what is news to them, and waits before the next attempt.
    pub(super) async fn failed(&mut self, error: &Error) {
        sleep(self.note(error)).await;
    }

    /// How long to wait.
    fn note(&mut self, error: &Error) -> Duration {
        // Each of the two is counted from its own beginning.
        if error.is_transient() == self.refused.is_some() {
            self.failures = 0;
        }
        self.failures += 1;
        if error.is_transient() {
            self.refused = None;
            self.missed(error);
            return AWAY.pause(self.failures);
        }
        // A refusal is an answer.
        self.answered();
        let said = self.refused.replace(error.to_string());
        if said != self.refused {
            self.report(error);
        }
        REFUSED.pause(self.failures)
    }

    fn missed(&self, error: &Error) {
        let first = {
            let mut waiting = self.agent.waiting();
            waiting.insert(self.purpose.clone()) && waiting.len() == 1
        };
        if first {
            tracing::warn!(%error, "Consul is away; serving without it, and trying again and again (registry = \"local\" does without)");
        }
    }

    fn answered(&self) {
        let mut waiting = self.agent.waiting();
        if waiting.remove(&self.purpose) && waiting.is_empty() {
            tracing::info!(agent = self.agent.0.address, "Consul is back");
        }
    }

    fn report(&self, error: &Error) {
        let Self { agent, purpose, .. } = self;
        match error {
            Error::Permission { .. } => {
                let rule = error.missing_rule().unwrap_or_else(|| "one that Consul does not name".to_owned());
                tracing::error!(%error, rule, token = agent.token_origin(), "Consul does not let us {purpose}");
            }
            _ => tracing::error!(%error, "Consul does not let us {purpose}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_not_an_outage_and_each_has_its_own_backoff() {
        let agent = "127.0.0.1:1".parse().unwrap();
        let consul = Consul { agent, token: None, token_origin: "none".to_owned() };
        let agent = Agent::new(&consul, Tasks::default()).unwrap();
        let away = Error::Timeout { address: String::new(), limit: ANSWER };
        let refused = Error::Permission { request: String::new(), message: String::new() };
        let (mut one, mut other) = (agent.attempts("one".to_owned()), agent.attempts("other".to_owned()));
        for _ in 0..20 {
            one.note(&away);
        }
        other.note(&away);
        assert_eq!(agent.waiting().len(), 2);
        assert!(one.note(&refused) <= AWAY.ceiling(1), "a refusal begins anew");
        other.succeeded();
        assert!(agent.waiting().is_empty(), "nobody misses an agent that answers");
        assert!(one.note(&away) <= AWAY.ceiling(1), "and so does an outage");
    }
}
