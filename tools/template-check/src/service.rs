//! scripts/new-service and scripts/remove-service, in a project.

use std::fs;

use anyhow::{Result, bail, ensure};

use crate::project::Project;

/// Syntax errors, paths, reserved words, and names that code generators change.
const BAD: &[&str] = &[
    "",
    "1a",
    "A",
    "a-b",
    "a_b",
    "a__b",
    "film_2",
    "../a",
    "a/b",
    "a b",
    "größe",
    "fn",
    "self",
    "test",
    "core",
    "build",
    "google",
    "grpc",
    "catalog",
    "monolith",
    "mesh",
    "contracts",
    "tokio",
    "tokio_util",
    "memchr",
    "longer_than_anybody_wants_to_type",
];

/// The options of scripts/new-service for long work, for events and for composers.
const LONG_WORK: &str = "--long-work";
const PUBLISHES: &str = "--publishes";
const COMPOSES: &str = "--composes";
/// Refused with one line that has these words. `artwork` publishes nothing.
const BAD_OPTIONS: [(&[&str], &str); 16] = [
    (&["x", "--follows"], "--follows needs a service"),
    (&["x", "--follows="], "--follows needs a service"),
    (&["x", "--follows", "nothing"], "there is no service `nothing`: expected --follows with one of"),
    (&["x", "--follows", "artwork"], "`artwork` publishes no events: expected --follows with one of"),
    (&["x", "--follows", "x"], "cannot follow itself"),
    (&["x", "--follows", "catalog", "--follows", "billing"], "got two services to follow"),
    (&["x", COMPOSES], "--composes needs 1 to 5 services"),
    (&["x", COMPOSES, "nothing"], "there is no service `nothing`: expected --composes with services"),
    (&["x", COMPOSES, "monolith"], "there is no service `monolith`"),
    (&["x", COMPOSES, "catalog,"], "there is no service ``"),
    (&["x", COMPOSES, "catalog,artwork,catalog"], "got `catalog` twice"),
    (&["x", COMPOSES, "catalog", COMPOSES, "artwork"], "got --composes twice"),
    (&["x", COMPOSES, "a,b,c,d,e,f"], "got 6 services to compose: expected 5 at most"),
    (&["x", COMPOSES, "catalog,x"], "cannot compose itself"),
    (&["x", COMPOSES, "catalog", PUBLISHES], "owns no data: omit"),
    (&["x", COMPOSES, "catalog", LONG_WORK, "--follows", "catalog"], "owns no data: omit"),
];

pub(crate) fn bad_names_are_refused(project: &Project) -> Result<()> {
    for name in BAD {
        if project.run("scripts/new-service", &[name]).is_ok() {
            bail!("`{name}` is not refused");
        }
    }
    for (arguments, why) in BAD_OPTIONS {
        let Err(error) = project.run("scripts/new-service", arguments) else { bail!("{arguments:?} is not refused") };
        let error = error.to_string();
        ensure!(error.lines().count() == 2 && error.contains(why), "{arguments:?} is refused with {error}");
    }
    project.is_clean()
}

/// Checks that rustfmt changes no line, whether the name is short or long.
pub(crate) fn is_formatted(project: &Project) -> Result<()> {
    for name in ["x", "film_reviews", "abcdefghijklmnopqrstuvwxyz0123"] {
        let (follows, one, two) = ("--follows=catalog", "--composes=artwork", "--composes=catalog,artwork");
        let all = [LONG_WORK, PUBLISHES, follows];
        for options in [&[][..], &[LONG_WORK], &[PUBLISHES], &[follows], &all, &[one], &[two]] {
            project.run("scripts/new-service", &[&[name], options].concat())?;
            project.run("cargo", &["fmt", "--all", "--check"])?;
            project.run("scripts/remove-service", &[name])?;
            project.is_clean()?;
        }
    }
    Ok(())
}

/// Checks that a removal refuses to delete a user's changes to an added service, also in ignored files.
fn work_is_kept(project: &Project) -> Result<()> {
    let rpc = project.folder.join("services/reviews/src/rpc.rs");
    let made = fs::read_to_string(&rpc)?;
    fs::write(&rpc, format!("{made}// Mine.\n"))?;
    refuses_to_remove(project, "reviews", "that git does not have")?;
    fs::write(&rpc, made)?;
    let ignored = project.folder.join("services/reviews/.env");
    fs::write(&ignored, "MINE=1")?;
    refuses_to_remove(project, "reviews", "that git does not have")?;
    fs::remove_file(ignored)?;
    Ok(())
}

fn refuses_to_remove(project: &Project, name: &str, why: &str) -> Result<()> {
    let Err(error) = project.run("scripts/remove-service", &[name]) else {
        bail!("remove-service removed `{name}`, although: {why}")
    };
    ensure!(error.to_string().contains(why), "remove-service refused for another reason: {error}");
    Ok(())
}

/// Adds a service of each kind, runs cargo, and removes them; git must be clean afterwards.
pub(crate) fn come_and_go(project: &Project, cargo: &[&str]) -> Result<()> {
    let mut added = vec![
        vec!["reviews"],
        vec!["critics", LONG_WORK],
        vec!["notes", PUBLISHES],
        vec!["digests", LONG_WORK, PUBLISHES, "--follows", "notes"],
        vec!["summaries", COMPOSES, "notes,critics"],
    ];
    if project.folder.join("services/catalog").exists() {
        added.push(vec!["shelves", "--follows", "catalog"]);
        added.push(vec!["pages", COMPOSES, "catalog,artwork"]);
    }
    // The scripts work from every folder of the project.
    for arguments in &added {
        project.run_in("services", "../scripts/new-service", arguments)?;
    }
    project.run("cargo", cargo)?;
    work_is_kept(project)?;
    refuses_to_remove(project, "notes", "services/digests (follows it)")?;
    refuses_to_remove(project, "critics", "proto/summaries, services/summaries")?;
    // A follower goes before its source, and a composer before what it composes.
    for arguments in added.iter().rev() {
        // The last moment at which cargo knows it.
        project.run("cargo", &["clean", "--package", arguments[0]])?;
        project.run_in("proto", "../scripts/remove-service", &arguments[..1])?;
    }
    project.is_clean()
}
