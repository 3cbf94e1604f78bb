//! What a project may be called, and what its name does to Cargo.lock.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use crate::project::collect;
use crate::template::{Template, read_toml};

/// Names that no project can have, whatever is in the workspace: no words, paths, tags, and words that are taken.
const BAD: &[&str] = &[
    "",
    "-shop",
    "1shop",
    "Shop",
    "a__b",
    "shop-",
    "shöp",
    "my shop",
    "shop!",
    ".",
    "..",
    "../shop",
    "a/b",
    "/shop",
    "{{x}}",
    "fn",
    "self",
    "type",
    "gen",
    "std",
    "core",
    "test",
    "build",
    "deps",
    "contracts",
];

pub(crate) fn bad_ones_are_refused(template: &Template) -> Result<()> {
    let lock = read_toml(&template.folder.join("Cargo.lock"))?;
    let packages = lock["package"].as_array().context("Cargo.lock has no packages")?;
    // The packages of the workspace are those that come from nowhere. Of the dependencies, some: one is like another.
    let (dependencies, ours): (Vec<_>, Vec<_>) = packages.iter().partition(|package| package.get("source").is_some());
    let taken = ours.into_iter().chain(dependencies.into_iter().step_by(20));
    let taken = taken.filter_map(|package| package["name"].as_str()).filter(|name| *name != template.name);

    let folder = template.folder.with_file_name("refused");
    for name in taken.chain(BAD.iter().copied()) {
        let Err(error) = template.generate_into(name, &folder) else { bail!("`{name}` is not refused") };
        let error = error.to_string();
        ensure!(error.contains("cannot be the name of the project"), "`{name}` is refused for another reason: {error}");
        let mut written = BTreeSet::new();
        collect(&folder, &folder, &mut written)?;
        // The name of a dependency is found out late, when there is a folder for the project, though nothing in it.
        written.remove(std::path::Path::new(name));
        ensure!(written.is_empty(), "`{name}` is refused, but {written:?} is there");
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// Names that sort before, after and among all the others.
pub(crate) fn lock_is_sorted(template: &Template) -> Result<()> {
    for name in ["aaa", "b", "mesh-b", "meshes", "shop_2", "tonic-a", "zzz"] {
        let project = template.generate(name)?;
        let lock = project.folder.join("Cargo.lock");
        let generated = fs::read(&lock)?;
        // Not `--offline`: on a machine that has built nothing yet, cargo has to look at the dependencies first.
        project.run("cargo", &["metadata", "--locked", "--format-version=1"])?;
        // Without `--locked`, cargo would write what it would rather have.
        project.run("cargo", &["metadata", "--format-version=1"])?;
        ensure!(fs::read(&lock)? == generated, "cargo changes {}; in git it would be a change", lock.display());
    }
    Ok(())
}
