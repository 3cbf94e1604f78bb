//! scripts/new-service and scripts/remove-service, in a project.

use std::fs;

use anyhow::{Result, bail, ensure};

use crate::project::Project;

/// No words, paths, words that are taken, and words that the generators of code spell in their own way.
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

/// Of scripts/new-service.
const LONG_WORK: &str = "--long-work";

pub(crate) fn bad_names_are_refused(project: &Project) -> Result<()> {
    for name in BAD {
        if project.run("scripts/new-service", &[name]).is_ok() {
            bail!("`{name}` is not refused");
        }
    }
    project.is_clean()
}

/// Long or short, the name leaves no line that rustfmt would break or join.
pub(crate) fn is_formatted(project: &Project) -> Result<()> {
    for name in ["x", "film_reviews", "abcdefghijklmnopqrstuvwxyz0123"] {
        for kind in [None, Some(LONG_WORK)] {
            let arguments: Vec<_> = [name].into_iter().chain(kind).collect();
            project.run("scripts/new-service", &arguments)?;
            project.run("cargo", &["fmt", "--all", "--check"])?;
            project.run("scripts/remove-service", &[name])?;
            project.is_clean()?;
        }
    }
    Ok(())
}

/// What somebody has written into a service that was added, or where git looks away, is not taken with it.
fn work_is_kept(project: &Project) -> Result<()> {
    let rpc = project.folder.join("services/reviews/src/rpc.rs");
    let made = fs::read_to_string(&rpc)?;
    fs::write(&rpc, format!("{made}// Mine.\n"))?;
    refuses_to_remove(project)?;
    fs::write(&rpc, made)?;
    let ignored = project.folder.join("services/reviews/.env");
    fs::write(&ignored, "MINE=1")?;
    refuses_to_remove(project)?;
    fs::remove_file(ignored)?;
    Ok(())
}

fn refuses_to_remove(project: &Project) -> Result<()> {
    let Err(error) = project.run("scripts/remove-service", &["reviews"]) else { bail!("work is lost") };
    ensure!(error.to_string().contains("that git does not have"), "work is kept for another reason: {error}");
    Ok(())
}

/// A service of each kind is added, cargo does something with them, and they go without a trace.
pub(crate) fn come_and_go(project: &Project, cargo: &[&str]) -> Result<()> {
    // From a folder within, as people do.
    project.run_in("services", "../scripts/new-service", &["reviews"])?;
    project.run_in("services", "../scripts/new-service", &["ratings", LONG_WORK])?;
    project.run("cargo", cargo)?;
    work_is_kept(project)?;
    for name in ["reviews", "ratings"] {
        project.run_in("proto", "../scripts/remove-service", &[name])?;
    }
    project.is_clean()
}
