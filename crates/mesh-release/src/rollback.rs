//! The way back from a deployment.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::Severity;
use super::manifest::Build;
use super::order::order;
use super::system::{Running, System};

impl System {
    /// The steps back from what is planned to what runs, and what forbids them.
    pub(super) fn back(&self) -> (Vec<Vec<String>>, Vec<String>) {
        let mut before: BTreeMap<&str, &Running> = BTreeMap::new();
        for new in &self.deploy {
            let most = self
                .running_of(new)
                .filter(|running| !running.build.is_same(new))
                .max_by_key(|running| running.instances);
            before.extend(most.map(|most| (new.service(), most)));
        }
        let planned: BTreeSet<_> = self.deploy.iter().map(Build::service).collect();
        let staying = self.running.iter().filter(|running| !planned.contains(running.build.service())).cloned();
        let deployed = self.deploy.iter().map(|build| Running { build: build.clone(), instances: 1 });
        let deploy: Vec<_> = before.values().map(|running| running.build.clone()).collect();
        let reversed = System { running: staying.chain(deployed).collect(), deploy };
        let edges = reversed.edges();
        let [hard, soft] = [Severity::Broken, Severity::Degraded].map(|severity| Self::pairs(&edges, severity));
        let steps = order(reversed.deploy.len(), &hard, &soft);
        let named = |group: &Vec<usize>| group.iter().map(|at| reversed.deploy[*at].service().to_owned()).collect();
        let mut forbidden = Vec::new();
        for new in &self.deploy {
            let Some(old) = before.get(new.service()).map(|running| &running.build) else { continue };
            forbidden.extend(self.below_floor(old, new));
            forbidden.extend(self.unread(old, new));
        }
        (steps.iter().map(named).collect(), forbidden)
    }
}
