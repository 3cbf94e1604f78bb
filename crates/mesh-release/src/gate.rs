//! The gate of a build that starts: what of it does not fit what runs.
//!
//! Guarantees:
//! - A difference that each running build of the service has, too, holds no build: nothing gets worse.
//! - A build that serves already, and one that an operator goes back to, are recognised.
//!
//! Does not: ask what runs, or wait. A process of mesh does that.

use std::cmp::Ordering;

use super::compare::Severity;
use super::manifest::Build;
use super::system::{Running, System};

/// A call or an event that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// The service that starts.
    pub service: String,
    /// The other service.
    pub peer: String,
    /// The method, or the type of an event.
    pub method: String,
    /// Which of the two calls, or follows.
    pub caller: String,
    /// The builds, and what does not fit: a sentence.
    pub why: String,
    /// Whether each running build of the service has the same difference.
    pub as_before: bool,
}

/// Why a build is not held although something does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exempt {
    /// The same build serves already.
    Serves,
    /// A later build of the service runs, or has run: this one takes its place.
    GoesBack,
}

/// What is broken between `new` and the builds of other services that run.
pub fn unmet(new: &Build, running: &[Running]) -> Vec<Unmet> {
    let system = System { running: running.to_vec(), deploy: vec![new.clone()] };
    let others = running.iter().filter(|running| running.build.service() != new.service());
    let found = others.flat_map(|other| {
        let said = system.between(new, &other.build, other.instances).into_iter();
        let said = said.filter(|said| said.severity == Severity::Broken);
        said.map(|said| Unmet {
            service: new.service().to_owned(),
            peer: other.build.service().to_owned(),
            method: said.finding.place.clone(),
            caller: if said.is_caller { new.service() } else { other.build.service() }.to_owned(),
            why: said.sentence(),
            as_before: system.is_as_before(&said, new, &other.build),
        })
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found.dedup();
    found
}

/// Whether one of the builds of its service exempts `new`: `serving` are those whose instances serve, `all` those of
/// any instances.
pub fn exempt<'a>(
    new: &Build,
    serving: impl IntoIterator<Item = &'a Build>,
    all: impl IntoIterator<Item = &'a Build>,
) -> Option<Exempt> {
    if serving.into_iter().any(|other| other.is_same(new)) {
        return Some(Exempt::Serves);
    }
    let is_later = |other: &Build| {
        let (known, others) = (new.schema(), other.schema());
        let is_newer =
            |(list, (version, _)): (&&str, &(i64, i64))| known.get(*list).is_some_and(|(known, _)| version > known);
        is_later(&other.manifest.version, &new.manifest.version) || others.iter().any(is_newer)
    };
    let mut all = all.into_iter().filter(|other| other.service() == new.service());
    all.any(is_later).then_some(Exempt::GoesBack)
}

/// Whether a version is later than another one by the rules of Semantic Versioning. What is no version is not later.
pub fn is_later(version: &str, than: &str) -> bool {
    let (Some(one), Some(other)) = (Version::read(version), Version::read(than)) else { return false };
    one.cmp(&other) == Ordering::Greater
}

/// A version: its three numbers, and what is behind the hyphen.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Version<'a> {
    numbers: [u64; 3],
    stage: Stage<'a>,
}

/// A release comes behind its candidates.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Stage<'a> {
    Candidate(Vec<Identifier<'a>>),
    Release,
}

/// Numbers come before words.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identifier<'a> {
    Number(u64),
    Word(&'a str),
}

impl<'a> Version<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let text = text.split('+').next()?;
        let (numbers, stage) = match text.split_once('-') {
            Some((numbers, stage)) => (numbers, Stage::Candidate(stage.split('.').map(Identifier::read).collect())),
            None => (text, Stage::Release),
        };
        let numbers = numbers.split('.').map(|number| number.parse().ok()).collect::<Option<Vec<_>>>()?;
        Some(Self { numbers: numbers.try_into().ok()?, stage })
    }
}

impl<'a> Identifier<'a> {
    fn read(text: &'a str) -> Self {
        text.parse().map_or(Self::Word(text), Self::Number)
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::mesh::release::v1::{Migration, MigrationList, Schema};

    use super::*;
    use crate::samples::{Declared, catalog};

    const CONTRACT: &str = "catalog.v1.CatalogService";

    fn contract(methods: &[&str]) -> Vec<u8> {
        let methods: String = methods.iter().map(|name| format!("rpc {name}(Ask) returns (Ask);")).collect();
        catalog(&format!("service CatalogService {{ {methods} }} message Ask {{ string id = 1; }}"))
    }

    fn serves(version: &str, methods: &[&str]) -> Build {
        Declared::new("catalog", version).serves(CONTRACT, &contract(methods)).build()
    }

    fn calls(version: &str, name: &str) -> Build {
        let declared = Declared::new("artwork", version);
        declared.calls("catalog", &format!("{CONTRACT}/{name}"), &contract(&[name])).serves("a.v1.A", &[]).build()
    }

    fn found(new: &Build, running: &[&Build]) -> Vec<Unmet> {
        let running = running.iter().map(|build| Running { build: (*build).clone(), instances: 1 });
        unmet(new, &running.collect::<Vec<_>>())
    }

    #[test]
    fn unmet_is_what_a_build_calls_and_what_is_called_of_it() {
        let (old, new) = (serves("1.0.0", &["Get"]), serves("1.1.0", &["Sum"]));
        let (before, after) = (calls("1.0.0", "Get"), calls("1.1.0", "Sum"));
        let [one] = &found(&after, &[&old, &before])[..] else { panic!() };
        let named = [&one.service, &one.peer, &one.caller, &one.method].map(String::as_str);
        assert_eq!(named, ["artwork", "catalog", "artwork", "catalog.v1.CatalogService/Sum"]);
        assert_eq!(one.why, "artwork 1.1.0 calls CatalogService/Sum, which catalog 1.0.0 does not serve");
        let [one] = &found(&new, &[&old, &before])[..] else { panic!() };
        let named = [&one.service, &one.peer, &one.caller, &one.method].map(String::as_str);
        assert_eq!(named, ["catalog", "artwork", "artwork", "catalog.v1.CatalogService/Get"]);
        assert_eq!(one.why, "catalog 1.1.0 does not serve CatalogService/Get, which artwork 1.0.0 calls");
        assert_eq!(found(&after, &[&new, &before]), [], "what runs of its own service is no peer");
        // One of two instances lacks the method.
        assert_eq!(found(&after, &[&new, &old]).len(), 1);
    }

    #[test]
    fn unmet_as_before_is_known_by_each_running_build_of_the_service() {
        let (old, patched) = (calls("1.0.0", "Sum"), calls("1.0.1", "Sum"));
        let lacks = serves("1.0.0", &["Get"]);
        assert!(found(&patched, &[&lacks, &old])[0].as_before);
        assert!(!found(&patched, &[&lacks, &old, &calls("0.9.0", "Get")])[0].as_before, "one of them fits");
        assert!(!found(&patched, &[&lacks])[0].as_before);
    }

    #[test]
    fn build_that_serves_and_an_earlier_one_are_exempt() {
        let (old, new) = (calls("1.0.0", "Get"), calls("1.1.0", "Sum"));
        let none: [&Build; 0] = [];
        assert_eq!(exempt(&new, none, none), None);
        assert_eq!(exempt(&new, [&old], [&old]), None);
        assert_eq!(exempt(&new, [&old, &new], [&old]), Some(Exempt::Serves));
        assert_eq!(exempt(&new, none, [&new]), None, "it does not serve");
        assert_eq!(exempt(&old, none, [&new]), Some(Exempt::GoesBack));
        assert_eq!(exempt(&old, none, [&serves("2.0.0", &[])]), None, "another service");
        let with = |version| {
            let migrations = vec![Migration { version, ..Migration::default() }];
            let list = MigrationList { name: "service_migrations".to_owned(), migrations };
            Declared::new("catalog", "1.0.0").with(|it| it.schema = Some(Schema { lists: vec![list] })).build()
        };
        assert_eq!(exempt(&with(2), none, [&with(3)]), Some(Exempt::GoesBack));
        assert_eq!(exempt(&with(3), none, [&with(2)]), None);
    }

    #[test]
    fn versions_have_an_order() {
        let ordered = ["0.9.9", "1.0.0-1", "1.0.0-9", "1.0.0-a", "1.0.0-a.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0"];
        for (at, one) in ordered.iter().enumerate() {
            for (than, other) in ordered.iter().enumerate() {
                assert_eq!(is_later(one, other), at > than, "{one} {other}");
            }
        }
        for no in ["", "1", "1.0", "1.0.0.0", "x.0.0", "1.0.0+b"] {
            assert!(!is_later(no, "1.0.0") && !is_later("1.0.0", &format!("{no}x")), "{no}");
        }
    }
}
