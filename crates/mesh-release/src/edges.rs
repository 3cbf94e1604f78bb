//! Which of the services that are deployed go before which.

use std::collections::BTreeSet;

use super::compare::Severity;
use super::manifest::Build;
use super::sentences::Said;
use super::system::System;

/// Why one service goes before another one.
pub(super) struct Edge {
    pub(super) before: usize,
    pub(super) behind: usize,
    pub(super) said: Vec<Said>,
}

impl Edge {
    pub(super) fn worst(&self) -> Severity {
        self.said.iter().map(|said| said.severity).max().unwrap_or(Severity::Degraded)
    }
}

impl System {
    /// For each pair of services that are deployed: why the first one goes before the second.
    pub(super) fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (behind, new) in self.deploy.iter().enumerate() {
            for (before, peer) in self.deploy.iter().enumerate().filter(|(before, _)| *before != behind) {
                let later: BTreeSet<_> = self.between(new, peer, 1).into_iter().map(|said| said.key()).collect();
                let others = self.running_of(peer).filter(|running| !running.build.is_same(peer));
                let said = others.flat_map(|running| self.between(new, &running.build, running.instances));
                // What is the same behind the other step needs no order.
                let said: Vec<_> = said.filter(|said| !later.contains(&said.key())).collect();
                if !said.is_empty() {
                    edges.push(Edge { before, behind, said });
                }
            }
        }
        edges
    }

    /// The edges of this severity, as pairs of places in what is deployed.
    pub(super) fn pairs(edges: &[Edge], severity: Severity) -> Vec<(usize, usize)> {
        edges.iter().filter(|edge| edge.worst() == severity).map(|edge| (edge.before, edge.behind)).collect()
    }

    /// Whether each running build of the one service has the same difference to each of the other one: what is broken
    /// anyway holds no deployment.
    pub(super) fn is_as_before(&self, said: &Said, new: &Build, other: &Build) -> bool {
        let is_deployed = self.deploy.iter().any(|build| build.service() == other.service());
        let others: Vec<_> = if is_deployed {
            self.running_of(other).map(|running| &running.build).collect()
        } else {
            // It stays, beside other builds of its service perhaps.
            vec![other]
        };
        let pairs = self.running_of(new).flat_map(|own| others.iter().map(move |other| (&own.build, *other)));
        let has = |(own, other): (&Build, &Build)| self.between(own, other, 1).iter().any(|it| it.key() == said.key());
        let mut pairs = pairs.peekable();
        pairs.peek().is_some() && pairs.all(has)
    }
}
