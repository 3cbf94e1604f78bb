//! scripts/new-service and scripts/remove-service, in a project.

use anyhow::{Result, bail};

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

/// A service of each kind is added, cargo does something with them, and they go without a trace.
pub(crate) fn come_and_go(project: &Project, cargo: &[&str]) -> Result<()> {
    // From a folder within, as people do.
    project.run_in("services", "../scripts/new-service", &["reviews"])?;
    project.run_in("services", "../scripts/new-service", &["ratings", LONG_WORK])?;
    project.run("cargo", cargo)?;
    for name in ["reviews", "ratings"] {
        project.run_in("proto", "../scripts/remove-service", &[name])?;
    }
    project.is_clean()
}
