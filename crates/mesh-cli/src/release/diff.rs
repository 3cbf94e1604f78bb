//! Prints the difference of two builds of a service.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::ValueEnum;
use mesh_proto::mesh::release::v1::Migration;
use mesh_release::migrations::{self, Edit};
use mesh_release::{Build, Finding, Severity, pair};
use serde_json::json;

use super::exit::{BLOCKED, usage};
use super::files::{Given, read};
use crate::shown::{name, sentence};

/// How differences are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines of text.
    Text,
    /// One JSON object.
    Json,
    /// Annotations of GitHub Actions.
    Github,
}

/// One difference.
struct Difference {
    /// `None`: it breaks nothing.
    severity: Option<Severity>,
    text: String,
    /// The file of the contract, if it is one of a contract.
    file: Option<String>,
}

/// Compares two builds.
pub(super) async fn diff(old: &Given, new: &Given, format: Format) -> anyhow::Result<ExitCode> {
    let (old, new) = match (read(old).await, read(new).await) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(why), _) | (_, Err(why)) => return Ok(usage(&why)),
    };
    if old.service() != new.service() {
        return Ok(usage(&format!("these are builds of two services, `{}` and `{}`", old.service(), new.service())));
    }
    let differences = differences(&old, &new);
    let out = match format {
        Format::Text => text(&old, &new, &differences),
        Format::Json => json_of(&old, &new, &differences),
        Format::Github => differences.iter().filter_map(annotation).collect(),
    };
    write!(io::stdout(), "{out}")?;
    let is_broken = differences.iter().any(|difference| difference.severity == Some(Severity::Broken));
    Ok(if is_broken { ExitCode::from(BLOCKED) } else { ExitCode::SUCCESS })
}

/// All differences, the worst first.
fn differences(old: &Build, new: &Build) -> Vec<Difference> {
    let found = |finding: Finding, text: String| {
        let of_contract = !finding.place.contains('/') || finding.place.contains('.');
        let file = of_contract.then(|| new.view.file_of(&finding.place).or(old.view.file_of(&finding.place)));
        let file = file.flatten().map(|file| format!("proto/{file}"));
        Difference { severity: Some(finding.severity), text, file }
    };
    let clients = folded(pair::clients(old, new)).into_iter().map(|(finding, more)| {
        let what = if finding.what.is_empty() { "is gone" } else { &finding.what };
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        let text = format!("{}{more}: {what}", finding.place);
        found(finding, text)
    });
    let stored = pair::stored(old, new).into_iter().map(|finding| {
        let what = if finding.what.is_empty() { "is gone" } else { &finding.what };
        let text = format!("stored {}: {what}", finding.place);
        found(finding, text)
    });
    // The old build reads it after a rollback, and beside the new one on a database that both share.
    let back =
        pair::stored(new, old).into_iter().filter(|finding| finding.severity == Severity::Broken).map(|finding| {
            let what = if finding.what.is_empty() { "it does not have it" } else { &finding.what };
            let text = format!("stored {}, read by the old build after a rollback: {what}", finding.place);
            found(Finding { severity: Severity::Degraded, ..finding }, text)
        });
    let mut all: Vec<_> = clients.chain(stored).chain(back).chain(schema(old, new)).chain(harmless(old, new)).collect();
    all.sort_by(|a, b| (b.severity, &a.text).cmp(&(a.severity, &b.text)));
    all
}

/// What differs in a message is one difference, however many methods have it: the first one, and the number of others.
fn folded(findings: Vec<Finding>) -> Vec<(Finding, usize)> {
    let (mut folded, mut known) = (Vec::<(Finding, usize)>::new(), BTreeMap::new());
    for finding in findings {
        let next = folded.len();
        // Each place that is gone is a difference of its own.
        let place = finding.what.is_empty().then(|| finding.place.clone());
        let at = *known.entry((place, finding.severity, finding.what.clone())).or_insert(next);
        match folded.get_mut(at) {
            Some((_, more)) => *more += 1,
            None => folded.push((finding, 0)),
        }
    }
    folded
}

/// Differences of the migrations.
fn schema(old: &Build, new: &Build) -> Vec<Difference> {
    let lists = |build: &Build| -> BTreeMap<String, Vec<Migration>> {
        let lists = build.manifest.schema.iter().flat_map(|schema| schema.lists.clone());
        lists.map(|list| (list.name, list.migrations)).collect()
    };
    let (before, now, mut found) = (lists(old), lists(new), Vec::new());
    let mut note = |severity, text: String| found.push(Difference { severity, text, file: None });
    for (list, version, edit) in migrations::edits(old, new) {
        let text = match edit {
            Edit::Other => format!("migration {version} of {list} was edited: add one instead"),
            // A build behind another one keeps its migrations.
            Edit::Gone | Edit::Dropped => format!("migration {version} of {list} is gone"),
        };
        note(Some(Severity::Broken), text);
    }
    for (list, now) in &now {
        let before = before.get(list).map(Vec::as_slice).unwrap_or_default();
        let added: Vec<_> = now.iter().filter(|one| before.iter().all(|known| known.version != one.version)).collect();
        let breaks = migrations::breaks(added.iter().map(|one| &*one.sql));
        for (one, why) in added.iter().zip(breaks) {
            let name = format!("migration {} {} of {list}", one.version, one.description);
            // A first schema has no programs before it.
            match why.first().filter(|_| !before.is_empty()) {
                None => note(None, format!("{name} is additive")),
                Some(why) if one.breaks_before > 0 => {
                    note(
                        Some(Severity::Degraded),
                        format!("{name} breaks programs before {}: {why}", one.breaks_before),
                    );
                }
                Some(why) => note(Some(Severity::Broken), format!("{name} wants .breaks_before(…): {why}")),
            }
        }
    }
    found
}

/// What is added, and what is called no more.
fn harmless(old: &Build, new: &Build) -> Vec<Difference> {
    let methods = |build: &Build| -> BTreeSet<String> {
        build.view.methods_of(&build.manifest.serves).into_iter().map(str::to_owned).collect()
    };
    let calls = |build: &Build| -> BTreeSet<String> {
        build.manifest.calls.iter().map(|call| format!("{} of {}", call.method, call.peer)).collect()
    };
    let events = |build: &Build| -> BTreeSet<String> { build.manifest.publishes.iter().cloned().collect() };
    let mut found = Vec::new();
    for (verb, before, now) in [
        ("serves", methods(old), methods(new)),
        ("publishes", events(old), events(new)),
        ("calls", calls(old), calls(new)),
        ("no longer calls", calls(new), calls(old)),
    ] {
        found.extend(now.difference(&before).map(|what| Difference {
            severity: None,
            text: format!("{verb} {what}"),
            file: None,
        }));
    }
    found.extend(pair::additions(old, new).into_iter().map(|what| Difference {
        severity: None,
        text: format!("adds {what}"),
        file: None,
    }));
    found
}

fn word(severity: Option<Severity>) -> &'static str {
    match severity {
        Some(Severity::Broken) => "broken",
        Some(Severity::Degraded) => "degraded",
        None => "change",
    }
}

fn text(old: &Build, new: &Build, differences: &[Difference]) -> String {
    let [service, before, now] = [new.service(), &old.version([new]), &new.version([old])].map(name);
    let mut lines = format!("{service} {before} → {now}\n");
    for Difference { severity, text, .. } in differences {
        lines += &format!("{:<8}  {}\n", word(*severity), sentence(text));
    }
    if differences.is_empty() {
        lines += if old.is_same(new) { "the same to others\n" } else { "nothing that is compared differs\n" };
    }
    lines
}

fn json_of(old: &Build, new: &Build, differences: &[Difference]) -> String {
    let differences: Vec<_> = differences
        .iter()
        .map(|Difference { severity, text, file }| json!({"severity": word(*severity), "text": text, "file": file}))
        .collect();
    let build = |build: &Build| json!({"version": build.manifest.version, "revision": build.manifest.revision, "digest": build.manifest.digest});
    let all = json!({"service": new.service(), "old": build(old), "new": build(new), "differences": differences});
    format!("{all}\n")
}

/// A line that GitHub shows at a pull request.
fn annotation(Difference { severity, text, file }: &Difference) -> Option<String> {
    let kind = match (*severity)? {
        Severity::Broken => "error",
        Severity::Degraded => "warning",
    };
    // GitHub's own escapes.
    let escaped = |text: &str| sentence(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escaped(text).replace(':', "%3A").replace(',', "%2C");
    let file = file.as_ref().map(|file| format!("file={},", property(file))).unwrap_or_default();
    Some(format!("::{kind} {file}title=mesh release diff::{}\n", escaped(text)))
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::field_descriptor_proto::Type;
    use prost_types::{
        DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
        ServiceDescriptorProto,
    };

    use super::*;

    #[test]
    fn field_that_an_answer_has_in_addition_is_listed() {
        let build = |fields: &[&str]| {
            let message = |name: &str, fields: &[&str]| {
                let field = |(name, number): (&&str, i32)| FieldDescriptorProto {
                    name: Some((*name).to_owned()),
                    number: Some(number),
                    r#type: Some(Type::String.into()),
                    ..FieldDescriptorProto::default()
                };
                DescriptorProto {
                    name: Some(name.to_owned()),
                    field: fields.iter().zip(1..).map(field).collect(),
                    ..DescriptorProto::default()
                }
            };
            let method = MethodDescriptorProto {
                name: Some("Get".to_owned()),
                input_type: Some(".a.v1.Ask".to_owned()),
                output_type: Some(".a.v1.Title".to_owned()),
                ..MethodDescriptorProto::default()
            };
            let service =
                ServiceDescriptorProto { name: Some("A".to_owned()), method: vec![method], ..Default::default() };
            let file = FileDescriptorProto {
                name: Some("a/v1/a.proto".to_owned()),
                package: Some("a.v1".to_owned()),
                message_type: vec![message("Ask", &[]), message("Title", fields)],
                service: vec![service],
                ..FileDescriptorProto::default()
            };
            let set = FileDescriptorSet { file: vec![file] }.encode_to_vec();
            Build::foreign("a", vec!["a.v1.A".to_owned()], &set).unwrap()
        };
        let (old, new) = (build(&["name"]), build(&["name", "tagline"]));
        let lines =
            |old, new| text(old, new, &differences(old, new)).lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&old, &new), ["change    adds `tagline` to a.v1.Title"]);
        assert_eq!(lines(&old, &old), ["the same to others"]);
    }

    #[test]
    fn names_of_builds_are_on_one_line() {
        let build = Build::foreign("a\nb\u{1b}[2J", Vec::new(), &[]).unwrap();
        assert_eq!(text(&build, &build, &[]), "a b [2J ? → ?\nthe same to others\n");
    }

    #[test]
    fn difference_of_a_shared_message_is_listed_once() {
        let finding = |place: &str, what: &str| Finding {
            severity: Severity::Broken,
            place: place.to_owned(),
            what: what.to_owned(),
        };
        let findings = [finding("S/A", "x"), finding("S/B", ""), finding("S/B", "x"), finding("S/C", "")];
        let folded = folded(findings.to_vec());
        let folded: Vec<_> = folded.iter().map(|(finding, more)| (&*finding.place, &*finding.what, *more)).collect();
        assert_eq!(folded, [("S/A", "x", 1), ("S/B", "", 0), ("S/C", "", 0)]);
    }
}
