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

/// The option of scripts/new-service for long work.
const LONG_WORK: &str = "--long-work";

pub(crate) fn bad_names_are_refused(project: &Project) -> Result<()> {
    for name in BAD {
        if project.run("scripts/new-service", &[name]).is_ok() {
            bail!("`{name}` is not refused");
        }
    }
    project.is_clean()
}

/// Checks that rustfmt changes no line, whether the name is short or long.
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

/// Checks that a removal refuses to delete a user's changes to an added service, also in ignored files.
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
    let Err(error) = project.run("scripts/remove-service", &["reviews"]) else {
        bail!("remove-service deleted a user's changes")
    };
    ensure!(error.to_string().contains("that git does not have"), "remove-service refused for another reason: {error}");
    Ok(())
}

/// Adds a service of each kind, runs cargo, and removes them; git must be clean afterwards.
pub(crate) fn come_and_go(project: &Project, cargo: &[&str]) -> Result<()> {
    // The scripts work from every folder of the project.
    project.run_in("services", "../scripts/new-service", &["reviews"])?;
    project.run_in("services", "../scripts/new-service", &["ratings", LONG_WORK])?;
    project.run("cargo", cargo)?;
    work_is_kept(project)?;
    for name in ["reviews", "ratings"] {
        project.run_in("proto", "../scripts/remove-service", &[name])?;
    }
    project.is_clean()
}
