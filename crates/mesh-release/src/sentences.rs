//! What does not fit between two builds, in sentences.

use super::compare::{Finding, Severity};
use super::manifest::Build;
use super::migrations::{self, Edit};
use super::pair::{stored, uses};
use super::system::System;

/// A finding in words.
pub(super) struct Said {
    pub(super) subject: String,
    pub(super) rest: String,
    pub(super) severity: Severity,
    /// What the subject no longer has.
    pub(super) removed: Option<String>,
    pub(super) finding: Finding,
    pub(super) is_caller: bool,
}

impl Said {
    pub(super) fn sentence(&self) -> String {
        format!("{} {}", self.subject, self.rest)
    }

    /// Equal for the same difference to another build.
    pub(super) fn key(&self) -> (String, String, bool) {
        (self.finding.place.clone(), self.finding.what.clone(), self.is_caller)
    }
}

impl System {
    /// What does not fit between two builds, with the first one as the subject.
    pub(super) fn between(&self, subject: &Build, other: &Build, instances: usize) -> Vec<Said> {
        let (name, named) = (self.name(subject), self.name(other));
        let calls = uses(subject, other).into_iter().map(|finding| {
            let (verb, not) = if finding.place.contains('/') { ("calls", "serve") } else { ("follows", "publish") };
            let place = short(&finding.place);
            let rest = match &*finding.what {
                "" => format!("{verb} {place}, which {named} does not {not}"),
                what => format!("{verb} {place} of {named}: {what}"),
            };
            Said { subject: name.clone(), rest, severity: finding.severity, removed: None, finding, is_caller: true }
        });
        let is_called = uses(other, subject).into_iter().map(|finding| {
            let (verb, uses) = if finding.place.contains('/') { ("serve", "calls") } else { ("publish", "follows") };
            let place = short(&finding.place).to_owned();
            let count = if instances > 1 { format!(" ({instances} instances)") } else { String::new() };
            let (rest, removed) = match &*finding.what {
                "" => (format!("does not {verb} {place}, which {named} {uses}{count}"), Some(place)),
                what => (
                    format!("{verb}{} {place} to {named}{count}: {what}", if verb == "publish" { "es" } else { "s" }),
                    None,
                ),
            };
            Said { subject: name.clone(), rest, severity: finding.severity, removed, finding, is_caller: false }
        });
        calls.chain(is_called).collect()
    }

    /// What `writer` has stored, and `reader` cannot go on with.
    pub(super) fn unread(&self, reader: &Build, writer: &Build) -> Vec<String> {
        let broken = stored(writer, reader).into_iter().filter(|finding| finding.severity == Severity::Broken);
        broken.map(|finding| self.reads(reader, writer, &finding)).collect()
    }

    /// That one build cannot read what another one has stored.
    fn reads(&self, reader: &Build, writer: &Build, finding: &Finding) -> String {
        let (reader, writer, place) = (self.name(reader), self.name(writer), &finding.place);
        match (&*finding.what, place.contains('/')) {
            ("", true) => {
                format!("{reader} does not have the step {place}, and sagas of {writer} that have begun it are stuck")
            }
            ("", false) => format!("{reader} does not do {place}, and operations of {writer} wait for it"),
            (what, _) => format!("{reader} reads {} that {writer} has stored: {what}", short(place)),
        }
    }

    /// Migrations that were applied, and are other ones now. A build that has fewer is an older one.
    pub(super) fn edited(&self, new: &Build, old: &Build) -> Vec<String> {
        let (name, other) = (self.name(new), self.name(old));
        let said = migrations::edits(old, new).into_iter().filter_map(|(list, version, edit)| match edit {
            Edit::Other => {
                Some(format!("{name} has another migration {version} in {list} than {other}: add one instead"))
            }
            Edit::Gone => {
                Some(format!("{name} does not have migration {version} in {list}, which {other} has applied"))
            }
            Edit::Dropped => None,
        });
        said.collect()
    }

    /// The lists of a schema behind which a program fails: `schema_of` breaks programs as old as this one.
    pub(super) fn below_floor(&self, program: &Build, schema_of: &Build) -> Vec<String> {
        let known = program.schema();
        let floors = schema_of.schema().into_iter().filter_map(|(list, (_, floor))| {
            let (version, _) = known.get(list).copied().unwrap_or_default();
            (floor > version).then(|| {
                let (program, other) = (self.name(program), self.name(schema_of));
                format!("{program} knows the migrations of {list} up to {version}, and {other} breaks programs before {floor}")
            })
        });
        floors.collect()
    }
}

/// A method or a type without its package: `CatalogService/GetTitle`.
pub(super) fn short(place: &str) -> &str {
    let (scope, _) = place.split_once('/').unwrap_or((place, ""));
    scope.rfind('.').map_or(place, |at| &place[at + 1..])
}
