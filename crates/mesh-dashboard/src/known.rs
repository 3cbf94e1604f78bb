//! What is known of a process: whether it answers, and what it has said.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_proto::mesh::inspect::v1::{GetProcessResponse, ServiceHealth, UnmetCall};
use prost_types::Timestamp;
use tokio::time::Instant;

use crate::members::{Channel, Member};

/// What is known of the state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reachability {
    /// It answers.
    Up,
    /// It finishes its calls and ends.
    Draining,
    /// It was asked for the first time, and has not answered yet.
    Asked,
    /// It is there and does not answer.
    Silent,
    /// It has drained, and has ended or is about to.
    Drained,
    /// It does not run at its address.
    Gone,
    /// It is known by another address, and shown there.
    Same,
}

impl Reachability {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Draining => "draining",
            Self::Asked => "asked",
            Self::Silent => "silent",
            Self::Drained => "drained",
            Self::Gone => "gone",
            Self::Same => "same",
        }
    }

    /// Whether it can be asked.
    pub(crate) fn answers(self) -> bool {
        matches!(self, Self::Up | Self::Draining)
    }

    /// Whether it counts as an instance.
    pub(crate) fn is_there(self) -> bool {
        !matches!(self, Self::Asked | Self::Drained | Self::Gone | Self::Same)
    }
}

/// A process and its state.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) state: Reachability,
    /// Why it is in no better one.
    pub(crate) why: String,
    /// Since when, in milliseconds. Of one that does not answer, its last answer; 0 if it never gave one.
    pub(crate) since: u64,
    /// When it entered its state, by the clock of the runtime.
    entered: Instant,
    /// When it answered last, in milliseconds; 0 before that.
    answered: u64,
    /// What it has said of itself; empty if it never did.
    pub(crate) process: GetProcessResponse,
    /// The services that discovery knows it by.
    pub(crate) services: Vec<String>,
    /// Why discovery does not take it for healthy; empty if it does.
    pub(crate) checks: String,
}

impl Condition {
    /// Changes the state at the time `at`, and why it is in no better one.
    pub(crate) fn enter(&mut self, state: Reachability, why: &str, at: u64) {
        if state.answers() {
            self.answered = at;
        }
        if self.state != state {
            (self.since, self.entered) = (self.answered, Instant::now());
        }
        self.state = state;
        why.clone_into(&mut self.why);
    }

    /// How long it has been in its state.
    pub(crate) fn lasts(&self) -> Duration {
        self.entered.elapsed()
    }

    /// Why it is in no better state; empty if all is well.
    pub(crate) fn why(&self) -> &str {
        if self.why.is_empty() { &self.checks } else { &self.why }
    }
}

/// What a process has said since its start.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) condition: Condition,
    pub(crate) health: BTreeMap<String, ServiceHealth>,
    pub(crate) unmet: Vec<UnmetCall>,
    /// The keys of its edges that are shown, with a time at which each had no calls; 0 if none is known.
    pub(crate) edges: BTreeMap<String, u64>,
    pub(crate) clock: Clock,
    /// When it measured what it has said last, by the clock here; 0 before that.
    pub(crate) measured: u64,
    pub(crate) channel: Channel,
}

impl Followed {
    pub(crate) fn new(member: &Member) -> Self {
        let condition = Condition {
            state: Reachability::Asked,
            why: String::new(),
            since: 0,
            entered: Instant::now(),
            answered: 0,
            process: GetProcessResponse::default(),
            services: member.services.clone(),
            checks: member.why.clone(),
        };
        Self {
            condition,
            health: BTreeMap::new(),
            unmet: Vec::new(),
            edges: BTreeMap::new(),
            clock: Clock::default(),
            measured: 0,
            channel: member.channel.clone(),
        }
    }
}

/// What the clock of a process is behind the one here, in milliseconds; `None` until it has said something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock(Option<i64>);

/// Messages come within this time, in milliseconds. One of the clocks was set after a longer one.
const SET: i64 = 5_000;

impl Clock {
    /// Notes that a process has said `there` what comes `here`. The least distance of both is that of the clocks; other
    /// messages had to wait.
    pub(crate) fn note(&mut self, there: u64, here: u64) {
        let signed = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        let distance = signed(here) - signed(there);
        let known = self.0.filter(|known| (*known..known + SET).contains(&distance));
        self.0 = known.or(Some(distance));
    }

    /// The time here.
    pub(crate) fn here(self, there: u64) -> u64 {
        there.saturating_add_signed(self.0.unwrap_or_default())
    }
}

/// The time in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time in milliseconds since 1970; 0 without one.
pub(crate) fn millis(at: Option<&Timestamp>) -> u64 {
    let of = |at: &Timestamp| at.seconds.saturating_mul(1000).saturating_add(i64::from(at.nanos) / 1_000_000);
    at.map_or(0, |at| u64::try_from(of(at)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_process_do_not_depend_on_its_clock() {
        for there in [1_000_000, 1_030_000, 970_000] {
            let mut clock = Clock::default();
            for (at, late) in [(0, 300), (1000, 0), (2000, 200)] {
                clock.note(there + at, 1_000_000 + at + late);
            }
            assert_eq!(clock.here(there + 3000), 1_003_000);
            // The clock there is set back by a minute.
            clock.note(there - 57_000, 1_003_000);
            assert_eq!(clock.here(there - 56_000), 1_004_000);
        }
    }
}
