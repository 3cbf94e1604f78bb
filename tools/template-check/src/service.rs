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
    "shop",
    "tokio",
    "tokio_util",
    "memchr",
    "longer_than_anybody_wants_to_type",
];

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
        project.run("scripts/new-service", &[name])?;
        project.run("cargo", &["fmt", "--all", "--check"])?;
        project.run("scripts/remove-service", &[name])?;
        project.is_clean()?;
    }
    Ok(())
}

pub(crate) fn comes_and_goes(project: &Project) -> Result<()> {
    // From a folder within, as people do.
    project.run_in("services", "../scripts/new-service", &["reviews"])?;
    project.run("cargo", &["test", "--workspace", "--locked"])?;
    project.run_in("proto", "../scripts/remove-service", &["reviews"])?;
    project.is_clean()
}
