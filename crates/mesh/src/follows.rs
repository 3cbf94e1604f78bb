//! What a service follows: a follower for each source.

use std::collections::BTreeSet;

use mesh_follow::{Follow, Follower};
use mesh_proto::Events;
use mesh_rpc::telemetry::Metrics;

use crate::resources::Resources;

type Build = Box<dyn FnOnce(&Resources, &Metrics) -> Follower + Send>;

/// The followers of a service.
#[derive(Default)]
pub(crate) struct Follows(Vec<(Followed, Build)>);

/// A source, and the types of the events that are followed.
pub(crate) type Followed = (&'static str, &'static [&'static str]);

impl Follows {
    pub(crate) fn add<F: Follow>(&mut self, build: impl FnOnce(&Resources) -> F + Send + 'static) {
        let build = move |resources: &Resources, metrics: &Metrics| {
            let (channel, copied) = (resources.channel(F::SOURCE), resources.copy(F::SOURCE));
            Follower::new(resources.service, resources.store(), channel, copied, metrics, build(resources))
        };
        self.0.push(((F::SOURCE, F::Event::TYPES), Box::new(build)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is followed, whether or not it can be.
    pub(crate) fn followed(&self) -> impl Iterator<Item = Followed> {
        self.0.iter().map(|(followed, _)| *followed)
    }

    /// The sources of `service`; an error of one line if it cannot follow them.
    pub(crate) fn check(&self, service: &str, owns_data: bool) -> anyhow::Result<Vec<&'static str>> {
        let mut sources = BTreeSet::new();
        for (source, _) in self.followed() {
            anyhow::ensure!(
                owns_data,
                "`{service}` follows `{source}` and has no database: declare its copy with Service::owns"
            );
            anyhow::ensure!(source != service, "`{service}` follows itself: write in the transaction that publishes");
            anyhow::ensure!(sources.insert(source), "`{service}` follows `{source}` twice: join the two followers");
        }
        Ok(sources.into_iter().collect())
    }

    pub(crate) fn build(self, resources: &Resources, metrics: &Metrics) -> Vec<Follower> {
        self.0.into_iter().map(|(_, build)| build(resources, metrics)).collect()
    }
}
