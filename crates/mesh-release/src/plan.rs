//! Plans a deployment: what can go alone, in which order, what must go together, what is blocked, and the way back.
//!
//! Guarantees:
//! - Each build that runs counts, so a rollout that is half done is seen.
//! - A step is safe if the new build fits all that run before it, and all that run behind it.
//!
//! Does not: ask what runs. Peers that do not run are no reason to wait.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::Severity;
use super::edges::Edge;
use super::manifest::Build;
use super::order::order;
use super::sentences::{Said, short};
use super::system::System;

/// How a deployment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Each service alone, in this order.
    Apart,
    /// Some builds only at the same time.
    Together,
    /// Not at all.
    Blocked,
}

/// A plan.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// Why it is blocked, a sentence each.
    pub blocked: Vec<String>,
    /// What works with less for a while, or for good, a sentence each.
    pub degraded: Vec<String>,
    /// The steps back, as names of services that go together.
    pub back: Vec<Vec<String>>,
    /// What forbids the way back, a sentence each.
    pub no_way_back: Vec<String>,
}

/// One step: one build, or several that only fit each other.
#[derive(Clone, Debug)]
pub struct Step {
    /// The services of the step.
    pub changes: Vec<Change>,
    /// The earlier steps that it needs, each with the first reason, and the number of further ones.
    pub after: Vec<(String, String, usize)>,
    /// Why the builds must go together, a sentence each.
    pub together: Vec<String>,
    /// Which extra release would part them.
    pub to_part: Option<String>,
}

/// A service that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The service.
    pub service: String,
    /// The versions that run.
    pub from: Vec<String>,
    /// The version to deploy.
    pub to: String,
}

impl Plan {
    /// How the deployment goes.
    pub fn verdict(&self) -> Verdict {
        if !self.blocked.is_empty() {
            Verdict::Blocked
        } else if self.steps.iter().any(|step| step.changes.len() > 1) {
            Verdict::Together
        } else {
            Verdict::Apart
        }
    }
}

impl System {
    /// Plans the deployment.
    pub fn plan(&self) -> Plan {
        let names: Vec<_> = self.deploy.iter().map(Build::service).collect();
        let edges = self.edges();
        let [hard, soft] = [Severity::Broken, Severity::Degraded].map(|severity| Self::pairs(&edges, severity));
        let steps = order(names.len(), &hard, &soft);
        let mut plan = Plan { blocked: self.blocked(), degraded: self.degraded(&edges), ..Plan::default() };
        plan.steps = steps.iter().map(|group| self.step(group, &edges)).collect();
        (plan.back, plan.no_way_back) = self.back();
        plan
    }

    /// What does not fit of the builds of `service` that run: the sentences, the worst first.
    pub fn check(&self, service: &str) -> Vec<(Severity, String)> {
        let own = self.running.iter().filter(|running| running.build.service() == service);
        let mut found = Vec::new();
        for (one, other) in own.flat_map(|one| self.running.iter().map(move |other| (one, other))) {
            if one.build.service() != other.build.service() {
                found.extend(self.between(&one.build, &other.build, other.instances));
            }
        }
        let mut found: Vec<_> = found.into_iter().map(|said| (said.severity, said.sentence())).collect();
        found.sort_by(|a, b| b.cmp(a));
        found.dedup();
        found
    }

    fn blocked(&self) -> Vec<String> {
        let mut blocked = Vec::new();
        let planned: BTreeSet<_> = self.deploy.iter().map(Build::service).collect();
        for (at, new) in self.deploy.iter().enumerate() {
            let staying = self.running.iter().filter(|running| !planned.contains(running.build.service()));
            let staying = staying.map(|running| (&running.build, running.instances));
            for (other, instances) in staying.chain(self.deploy[at + 1..].iter().map(|other| (other, 0))) {
                let said = self.between(new, other, instances).into_iter();
                let said =
                    said.filter(|said| said.severity == Severity::Broken && !self.is_as_before(said, new, other));
                blocked.extend(said.map(|said| said.sentence()));
            }
            for running in self.running_of(new).filter(|running| !running.build.is_same(new)) {
                blocked.extend(self.unread(new, &running.build));
                blocked.extend(self.edited(new, &running.build));
                blocked.extend(self.below_floor(new, &running.build));
            }
        }
        blocked
    }

    fn degraded(&self, edges: &[Edge]) -> Vec<String> {
        let mut lines = Lines::default();
        let for_a_while = edges.iter().flat_map(|edge| &edge.said).filter(|said| said.severity == Severity::Degraded);
        for_a_while.for_each(|said| lines.add(said, ""));
        let planned: BTreeSet<_> = self.deploy.iter().map(Build::service).collect();
        let staying: Vec<_> =
            self.running.iter().filter(|running| !planned.contains(running.build.service())).collect();
        for (at, new) in self.deploy.iter().enumerate() {
            for running in self.running_of(new) {
                // The first new instance migrates the database, on which the old ones work until they are replaced.
                let below = self.below_floor(&running.build, new).into_iter();
                lines.whole.extend(below.map(|why| format!("{why}: its instances fail until they are replaced")));
            }
            let staying = staying.iter().map(|running| (&running.build, running.instances));
            for (other, instances) in staying.chain(self.deploy[at + 1..].iter().map(|other| (other, 0))) {
                for said in self.between(new, other, instances) {
                    match said.severity {
                        Severity::Degraded => lines.add(&said, ""),
                        Severity::Broken if self.is_as_before(&said, new, other) => lines.add(&said, ", as before"),
                        Severity::Broken => {}
                    }
                }
            }
        }
        lines.all()
    }

    fn step(&self, group: &[usize], edges: &[Edge]) -> Step {
        let change = |at: &usize| {
            let new = &self.deploy[*at];
            let from = self.running_of(new).map(|running| self.version(&running.build)).collect();
            Change { service: new.service().to_owned(), from, to: self.version(new) }
        };
        let hard = || edges.iter().filter(|edge| edge.worst() == Severity::Broken && group.contains(&edge.behind));
        let within: Vec<_> = hard().filter(|edge| group.contains(&edge.before)).collect();
        let after = hard().filter(|edge| !group.contains(&edge.before)).map(|edge| {
            let mut said = edge.said.iter().filter(|said| said.severity == Severity::Broken);
            let first = said.next().map(|said| said.rest.clone()).unwrap_or_default();
            (self.deploy[edge.before].service().to_owned(), first, said.count())
        });
        let broken = within.iter().flat_map(|edge| &edge.said).filter(|said| said.severity == Severity::Broken);
        Step {
            changes: group.iter().map(change).collect(),
            after: after.collect(),
            together: broken.map(Said::sentence).collect(),
            to_part: (group.len() > 1).then(|| self.to_part(group, &within)),
        }
    }

    /// Which extra release parts builds that must go together.
    fn to_part(&self, group: &[usize], within: &[&Edge]) -> String {
        let is_removal = |said: &Said| said.severity < Severity::Broken || said.removed.is_some();
        // Edges that are left if what is removed stays for one release more.
        let left: Vec<_> = within.iter().filter(|edge| !edge.said.iter().all(is_removal)).collect();
        let at = |service: usize| group.iter().position(|one| *one == service).unwrap_or_default();
        let left: Vec<_> = left.iter().map(|edge| (at(edge.before), at(edge.behind))).collect();
        let steps = order(group.len(), &left, &[]);
        if steps.iter().any(|step| step.len() > 1) {
            return "a release of one of them that takes both forms of what differs; deploy it first".to_owned();
        }
        let mut kept: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for edge in within {
            kept.entry(edge.behind).or_default().extend(edge.said.iter().filter_map(|said| said.removed.as_deref()));
        }
        kept.retain(|_, methods| !methods.is_empty());
        let list = |methods: &BTreeSet<&str>| methods.iter().copied().collect::<Vec<_>>().join(", ");
        let keep: Vec<_> = kept
            .iter()
            .map(|(service, methods)| format!("keep {} in {}", list(methods), self.name(&self.deploy[*service])))
            .collect();
        let deploy: Vec<_> = steps.iter().flatten().map(|one| self.deploy[group[*one]].service()).collect();
        let remove: Vec<_> = kept
            .iter()
            .map(|(service, methods)| {
                format!("remove {} in the next {}", list(methods), self.deploy[*service].service())
            })
            .collect();
        format!("{}; deploy {}; {}", keep.join(", "), deploy.join(", "), remove.join(", "))
    }
}

/// Sentences, in which what one build lacks of another one is a single line.
#[derive(Default)]
struct Lines {
    whole: BTreeSet<String>,
    /// By what is before and behind the place: the places.
    missing: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Lines {
    fn add(&mut self, said: &Said, end: &str) {
        let (sentence, place) = (said.sentence(), short(&said.finding.place));
        match sentence.split_once(place).filter(|_| said.finding.what.is_empty()) {
            Some((before, behind)) => {
                let key = (before.to_owned(), format!("{behind}{end}"));
                self.missing.entry(key).or_default().insert(place.to_owned());
            }
            None => _ = self.whole.insert(format!("{sentence}{end}")),
        }
    }

    fn all(mut self) -> Vec<String> {
        for ((before, behind), places) in self.missing {
            let Some(first) = places.first() else { continue };
            let more = if places.len() > 1 { format!(" (and {} more)", places.len() - 1) } else { String::new() };
            self.whole.insert(format!("{before}{first}{more}{behind}"));
        }
        self.whole.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptor::{File, FileSet, Message, Method, Service};
    use crate::samples::{Declared, catalog};
    use crate::system::Running;
    use mesh_proto::mesh::release::v1::{Migration, MigrationList, Schema};
    use prost::Message as _;

    const CONTRACT: &str = "catalog.v1.CatalogService";
    const GET: &str = "catalog.v1.CatalogService/GetTitle";
    const SUMMARY: &str = "catalog.v1.CatalogService/GetSummary";

    /// A contract with these methods, and an event.
    fn contract(methods: &[&str]) -> Vec<u8> {
        let methods: String = methods.iter().map(|name| format!("rpc {name}(Ask) returns (Title);")).collect();
        catalog(&format!(
            "service CatalogService {{ {methods} }} message Ask {{ string id = 1; }} message Title {{ string name = 1; }} message Added {{ string key = 1; }}"
        ))
    }

    fn serves(version: &str, methods: &[&str]) -> Build {
        Declared::new("catalog", version).serves(CONTRACT, &contract(methods)).build()
    }

    fn calls(version: &str, method: &str) -> Build {
        let name = method.rsplit('/').next().unwrap();
        Declared::new("artwork", version).calls("catalog", method, &contract(&[name])).serves("a.v1.A", &[]).build()
    }

    fn run(running: &[(&Build, usize)], deploy: &[&Build]) -> Plan {
        let running =
            running.iter().map(|(build, instances)| Running { build: (*build).clone(), instances: *instances });
        System { running: running.collect(), deploy: deploy.iter().map(|build| (*build).clone()).collect() }.plan()
    }

    fn steps(plan: &Plan) -> Vec<Vec<&str>> {
        let step = |step: &Step| -> Vec<_> { step.changes.iter().map(|change| change.service.clone()).collect() };
        let all: Vec<Vec<String>> = plan.steps.iter().map(step).collect();
        all.into_iter().map(|step| step.into_iter().map(|name| &*name.leak()).collect()).collect()
    }

    #[test]
    fn plan_orders_a_new_call_behind_its_method_and_the_way_back_in_reverse() {
        let (old, new) = (serves("1.0", &["GetTitle"]), serves("1.1", &["GetTitle", "GetSummary"]));
        let (before, after) = (calls("1.0", GET), calls("1.1", SUMMARY));
        let plan = run(&[(&before, 2), (&old, 2)], &[&after, &new]);
        assert_eq!(plan.verdict(), Verdict::Apart, "{plan:?}");
        assert_eq!(steps(&plan), [["catalog"], ["artwork"]]);
        let reason = "calls CatalogService/GetSummary, which catalog 1.0 does not serve".to_owned();
        assert_eq!(plan.steps[1].after, [("catalog".to_owned(), reason, 0)]);
        assert_eq!(plan.back, [["artwork"], ["catalog"]]);
        assert_eq!(plan.steps[0].changes[0].from, ["1.0"]);
    }

    #[test]
    fn plan_says_what_couples_and_what_parts() {
        let (old, new) = (serves("1.0", &["GetTitle"]), serves("1.1", &["GetSummary"]));
        let (before, after) = (calls("1.0", GET), calls("1.1", SUMMARY));
        let plan = run(&[(&before, 2), (&old, 2)], &[&after, &new]);
        assert_eq!(plan.verdict(), Verdict::Together);
        let [step] = &plan.steps[..] else { panic!("{plan:?}") };
        assert_eq!(
            step.together,
            [
                "catalog 1.1 does not serve CatalogService/GetTitle, which artwork 1.0 calls (2 instances)",
                "artwork 1.1 calls CatalogService/GetSummary, which catalog 1.0 does not serve",
            ]
            .map(str::to_owned)
            .into_iter()
            .rev()
            .collect::<Vec<_>>()
        );
        assert_eq!(
            step.to_part.as_deref(),
            Some(
                "keep CatalogService/GetTitle in catalog 1.1; deploy catalog, artwork; \
                 remove CatalogService/GetTitle in the next catalog"
            )
        );
    }

    #[test]
    fn plan_is_blocked_by_what_stays() {
        let new = serves("1.1", &["GetSummary"]);
        let before = calls("1.0", GET);
        let plan = run(&[(&before, 3), (&serves("1.0", &["GetTitle"]), 1)], &[&new]);
        assert_eq!(plan.verdict(), Verdict::Blocked);
        let why = "catalog 1.1 does not serve CatalogService/GetTitle, which artwork 1.0 calls (3 instances)";
        assert_eq!(plan.blocked, [why]);
        // The first deployment: nothing runs.
        assert_eq!(run(&[], &[&new]).verdict(), Verdict::Apart);
        let both = run(&[], &[&new, &before]);
        assert_eq!((both.verdict(), both.blocked.len()), (Verdict::Blocked, 1), "two new builds that do not fit");
    }

    #[test]
    fn plan_says_in_one_line_what_an_optional_peer_lacks() {
        let old = serves("1.0", &["GetTitle"]);
        let set = contract(&["GetTitle", "GetSummary", "ListTitles"]);
        let optional = ["GetSummary", "ListTitles"].iter().fold(Declared::new("gateway", "1.0"), |declared, name| {
            declared.calls("catalog", &format!("{CONTRACT}/{name}"), &set)
        });
        let new = optional.with(|it| it.calls.iter_mut().for_each(|call| call.optional = true)).build();
        let line = "gateway 1.0 calls CatalogService/GetSummary (and 1 more), which catalog 1.0 does not serve";
        assert_eq!(run(&[(&old, 1)], &[&new]).degraded, [line]);
    }

    #[test]
    fn plan_is_not_blocked_by_what_is_broken_anyway() {
        let (old, new) = (serves("1.0", &["GetSummary"]), serves("1.1", &["GetSummary", "ListTitles"]));
        let phones = calls("0.9", GET);
        let plan = run(&[(&phones, 1), (&old, 1)], &[&new]);
        assert_eq!(plan.verdict(), Verdict::Apart);
        let as_before = "catalog 1.1 does not serve CatalogService/GetTitle, which artwork 0.9 calls, as before";
        assert_eq!(plan.degraded, [as_before]);
    }

    #[test]
    fn plan_is_blocked_by_a_new_break_in_any_order_of_what_is_deployed() {
        let (old, new) = (serves("1.0", &["GetTitle"]), serves("1.1", &["GetSummary"]));
        let (before, after) = (calls("1.0", GET), calls("1.1", GET));
        let running = [(&before, 1), (&old, 1)];
        for deploy in [[&after, &new], [&new, &after]] {
            let plan = run(&running, &deploy);
            assert_eq!((plan.verdict(), plan.blocked.len()), (Verdict::Blocked, 1), "{plan:?}");
        }
        // One instance that fails is no reason for all to fail.
        let running = [(&before, 1), (&old, 1), (&new, 1)];
        assert_eq!(run(&running, &[&after, &new]).verdict(), Verdict::Blocked);
        let running = [(&before, 1), (&new, 1)];
        assert_eq!(run(&running, &[&after, &new]).verdict(), Verdict::Apart, "it fails before, too");
    }

    /// What is broken between two builds.
    fn broken(one: &Build, other: &Build) -> BTreeSet<(String, String, bool)> {
        let found = System::default().between(one, other, 1);
        found.into_iter().filter(|said| said.severity == Severity::Broken).map(|said| said.key()).collect()
    }

    /// Whether nothing is broken, with these builds in place of those that run, that is not broken already.
    fn breaks_nothing(system: &System, deployed: &[&Build]) -> bool {
        let is_replaced = |build: &Build| deployed.iter().any(|new| new.service() == build.service());
        let own = |of: &Build| -> Vec<Build> { system.running_of(of).map(|running| running.build.clone()).collect() };
        let staying = system.running.iter().map(|running| &running.build).filter(|build| !is_replaced(build));
        let peers: Vec<_> = staying.chain(deployed.iter().copied()).collect();
        let pairs = deployed.iter().flat_map(|new| peers.iter().map(move |peer| (*new, *peer)));
        pairs.filter(|(new, peer)| new.service() != peer.service()).all(|(new, peer)| {
            let will_be = system.deploy.iter().any(|build| build.service() == peer.service());
            let peers = if will_be { own(peer) } else { vec![peer.clone()] };
            let before = own(new).into_iter().flat_map(|own| peers.iter().map(move |peer| broken(&own, peer)));
            let before = before.reduce(|all, of| all.intersection(&of).cloned().collect()).unwrap_or_default();
            broken(new, peer).is_subset(&before)
        })
    }

    #[test]
    fn plan_of_random_systems_breaks_nothing_and_is_blocked_by_nothing_else() {
        const METHODS: [&str; 3] = ["A", "B", "C"];
        let mut random = fastrand::Rng::with_seed(26);
        // Without the options, whose files take most of the time.
        let set = |service: usize, methods: usize| {
            let ask = format!(".s{service}.v1.Ask");
            let methods = METHODS.iter().enumerate().filter(|(at, _)| methods >> at & 1 == 1);
            let method = |name: &str| {
                let (request, response) = (ask.clone(), ask.clone());
                Method { name: name.to_owned(), request, response, ..Method::default() }
            };
            let methods = methods.map(|(_, name)| method(name)).collect();
            let (name, package) = (format!("s{service}.proto"), format!("s{service}.v1"));
            let services = vec![Service { name: "S".to_owned(), methods }];
            let messages = vec![Message { name: "Ask".to_owned(), ..Message::default() }];
            FileSet { files: vec![File { name, package, services, messages, ..File::default() }] }.encode_to_vec()
        };
        let sets: Vec<Vec<_>> = (0..4).map(|service| (0..8).map(|methods| set(service, methods)).collect()).collect();
        let mut verdicts = [0; 3];
        for round in 0..500 {
            let services = random.usize(2..=4);
            let mut build = |service: usize, version: usize| {
                let serves = random.usize(..8) | random.usize(..8);
                let declared = Declared::new(&format!("s{service}"), &format!("1.{version}"))
                    .serves(&format!("s{service}.v1.S"), &sets[service][serves]);
                let peers = (0..services).filter(|peer| *peer != service);
                let calls = peers.flat_map(|peer| METHODS.map(|method| (peer, method)));
                let calls: Vec<_> = calls.filter(|_| random.f64() < 0.12).collect();
                let calls = calls.into_iter();
                calls.fold(declared, |declared, (peer, method)| {
                    declared.calls(&format!("s{peer}"), &format!("s{peer}.v1.S/{method}"), &sets[peer][7])
                })
            };
            let mut system = System::default();
            let mut random = fastrand::Rng::with_seed(round);
            for service in 0..services {
                let count = [1, 1, 1, 2, 0][random.usize(..5)];
                let running = (0..count).map(|version| build(service, version).build());
                system.running.extend(running.map(|build| Running { build, instances: 1 }));
                if random.f64() < 0.8 {
                    system.deploy.push(build(service, 2).build());
                }
            }
            let plan = system.plan();
            let all: Vec<_> = system.deploy.iter().collect();
            assert_eq!(plan.verdict() == Verdict::Blocked, !breaks_nothing(&system, &all), "{round}: {plan:?}");
            verdicts[plan.verdict() as usize] += 1;
            if plan.verdict() != Verdict::Blocked {
                let mut deployed = Vec::new();
                for step in &plan.steps {
                    let is_in = |build: &&Build| step.changes.iter().any(|change| change.service == build.service());
                    deployed.extend(system.deploy.iter().filter(is_in));
                    assert!(breaks_nothing(&system, &deployed), "{round}: {deployed:?} of {plan:?}");
                }
            }
            random.shuffle(&mut system.deploy);
            assert_eq!(plan.verdict(), system.plan().verdict(), "{round}");
        }
        assert!(verdicts.iter().all(|count| *count > 5), "{verdicts:?}");
    }

    #[test]
    fn plan_sees_a_rollout_that_is_half_done() {
        let (old, new) = (serves("1.0", &["GetTitle"]), serves("1.1", &["GetTitle", "GetSummary"]));
        let after = calls("1.1", SUMMARY);
        let plan = run(&[(&old, 1), (&new, 1)], &[&after, &new]);
        assert_eq!(steps(&plan), [["catalog"], ["artwork"]]);
        assert_eq!(plan.steps[0].changes[0].from, ["1.0", "1.1"]);
        assert_eq!(run(&[(&new, 2)], &[&after, &new]).steps.iter().map(|step| step.after.len()).sum::<usize>(), 0);
    }

    #[test]
    fn plan_says_what_forbids_the_way_back() {
        let schema = |version, breaks_before| {
            let (description, sql) = (String::new(), "SELECT 1".to_owned());
            let migrations = (1..=version).map(|one| Migration {
                version: one,
                description: description.clone(),
                sql: sql.clone(),
                breaks_before: if one == version { breaks_before } else { 0 },
            });
            Some(Schema {
                lists: vec![MigrationList { name: "service_migrations".to_owned(), migrations: migrations.collect() }],
            })
        };
        let build = |version: &str, known, floor, stores: &[&str]| {
            let stores = stores.iter().map(|one| (*one).to_owned()).collect();
            Declared::new("library", version)
                .with(|manifest| (manifest.schema, manifest.stores) = (schema(known, floor), stores))
                .build()
        };
        let old = build("1.0", 2, 0, &["Rent", "Rent/charge"]);
        assert_eq!(
            run(&[(&old, 1)], &[&build("1.1", 3, 2, &["Rent", "Rent/charge"])]).no_way_back,
            Vec::<String>::new()
        );
        let plan = run(&[(&old, 1)], &[&build("1.1", 3, 3, &["Rent", "Rent/charge", "Rent/ship"])]);
        assert_eq!(plan.verdict(), Verdict::Apart);
        assert_eq!(
            plan.no_way_back,
            [
                "library 1.0 knows the migrations of service_migrations up to 2, and library 1.1 breaks programs before 3",
                "library 1.0 does not have the step Rent/ship, and sagas of library 1.1 that have begun it are stuck",
            ]
        );
        let below =
            "library 1.0 knows the migrations of service_migrations up to 2, and library 1.1 breaks programs before 3";
        assert_eq!(plan.degraded, [format!("{below}: its instances fail until they are replaced")]);
        // The way back, as a plan: the store of the old build refuses to open.
        let broke = build("1.1", 3, 3, &["Rent", "Rent/charge"]);
        let back = run(&[(&broke, 1)], &[&old]);
        assert_eq!((back.verdict(), back.blocked), (Verdict::Blocked, vec![below.to_owned()]));
        let back = run(&[(&build("1.1", 3, 2, &["Rent", "Rent/charge"]), 1)], &[&old]);
        assert_eq!((back.verdict(), back.degraded), (Verdict::Apart, vec![]));
        let plan = run(&[(&old, 1)], &[&build("1.1", 2, 0, &["Rent"])]);
        assert_eq!(
            plan.blocked,
            ["library 1.1 does not have the step Rent/charge, and sagas of library 1.0 that have begun it are stuck"]
        );
        let edited = |edit: fn(&mut Vec<Migration>)| {
            let new = Declared::new("library", "1.1").with(|manifest| {
                (manifest.schema, manifest.stores) = (schema(2, 0), old.manifest.stores.clone());
                edit(&mut manifest.schema.as_mut().unwrap().lists[0].migrations);
            });
            run(&[(&old, 1)], &[&new.build()]).blocked
        };
        assert_eq!(
            edited(|migrations| migrations[0].sql = "SELECT 2".to_owned()),
            ["library 1.1 has another migration 1 in service_migrations than library 1.0: add one instead"]
        );
        assert_eq!(
            edited(|migrations| drop(migrations.remove(0))),
            ["library 1.1 does not have migration 1 in service_migrations, which library 1.0 has applied"]
        );
        assert_eq!(edited(|migrations| migrations.truncate(1)), Vec::<String>::new(), "an older build");
    }

    #[test]
    fn check_says_what_does_not_fit_of_what_runs() {
        let running = [serves("1.0", &["GetTitle"]), serves("1.1", &["GetSummary"]), calls("1.0", GET)];
        let running = running.map(|build| Running { build, instances: 2 }).to_vec();
        let system = System { running, deploy: Vec::new() };
        let broken = |text: &str| vec![(Severity::Broken, text.to_owned())];
        assert_eq!(
            system.check("catalog"),
            broken("catalog 1.1 does not serve CatalogService/GetTitle, which artwork 1.0 calls (2 instances)")
        );
        assert_eq!(
            system.check("artwork"),
            broken("artwork 1.0 calls CatalogService/GetTitle, which catalog 1.1 does not serve")
        );
        assert_eq!(system.check("library"), []);
    }

    #[test]
    fn plan_puts_followers_behind_what_they_follow() {
        let set = contract(&["GetTitle"]);
        let source = |version, publishes| {
            let build = Declared::new("catalog", version).serves(CONTRACT, &set);
            (if publishes { build.publishes("catalog.v1.Added") } else { build }).build()
        };
        let follower = Declared::new("library", "1.1").follows("catalog", "catalog.v1.Added", &set).build();
        let plan = run(&[(&source("1.0", false), 1)], &[&follower, &source("1.1", true)]);
        assert_eq!(steps(&plan), [["catalog"], ["library"]]);
        assert_eq!(plan.steps[1].after[0].1, "follows Added, which catalog 1.0 does not publish");
    }

    #[test]
    fn plan_of_sixty_instances_of_twenty_services() {
        const SERVICES: usize = 20;
        let set = |service: usize, version: usize| {
            let more = if version > 0 { "rpc GetMore(Ask) returns (Answer);" } else { "" };
            let fields: String = (1..40).map(|number| format!("string f{number} = {number};")).collect();
            crate::samples::set(
                &format!("s{service}"),
                &format!(
                    "service S {{ rpc Get(Ask) returns (Answer); {more} }} message Ask {{ {fields} }} message Answer {{ {fields} Ask ask = 50; }}"
                ),
            )
        };
        // Each calls the three behind it, and the new one a new method of the next.
        let build = |service: usize, version: usize| {
            let own = set(service, version);
            let declared = Declared::new(&format!("s{service}"), &format!("1.{version}"))
                .serves(&format!("s{service}.v1.S"), &own);
            let peers = (service + 1..SERVICES).take(3);
            let declared = peers.fold(declared, |declared, peer| {
                declared.calls(&format!("s{peer}"), &format!("s{peer}.v1.S/Get"), &set(peer, version))
            });
            let next = (version > 0 && service + 1 < SERVICES).then(|| format!("s{}.v1.S/GetMore", service + 1));
            next.into_iter()
                .fold(declared, |declared, method| declared.calls(&format!("s{}", service + 1), &method, &[]))
                .build()
        };
        let running: Vec<_> = (0..SERVICES).map(|service| Running { build: build(service, 0), instances: 3 }).collect();
        let deploy: Vec<_> = (0..SERVICES).map(|service| build(service, 1)).collect();
        let plan = System { running, deploy }.plan();
        assert_eq!((plan.verdict(), plan.steps.len(), plan.back.len()), (Verdict::Apart, SERVICES, SERVICES));
        assert_eq!(plan.steps[0].changes[0].service, "s19", "the one that calls no other goes first");
    }
}
