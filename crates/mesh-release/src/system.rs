//! What runs, and what is to be deployed.

use super::manifest::Build;

/// A build, and how many instances of it run.
#[derive(Clone, Debug)]
pub struct Running {
    /// The build.
    pub build: Build,
    /// Its instances.
    pub instances: usize,
}

/// What runs, and what is to be deployed: one build a service at most.
#[derive(Clone, Debug, Default)]
pub struct System {
    /// What runs.
    pub running: Vec<Running>,
    /// What is to be deployed.
    pub deploy: Vec<Build>,
}

impl System {
    /// What runs of the service of a build.
    pub(super) fn running_of(&self, new: &Build) -> impl Iterator<Item = &Running> {
        self.running.iter().filter(|running| running.build.service() == new.service())
    }

    /// The version of a build, with its digest if another build of the service has the same version.
    pub(super) fn version(&self, build: &Build) -> String {
        let all = self.running.iter().map(|running| &running.build).chain(&self.deploy);
        build.version(all.filter(|other| other.service() == build.service()))
    }

    pub(super) fn name(&self, build: &Build) -> String {
        format!("{} {}", build.service(), self.version(build))
    }
}
