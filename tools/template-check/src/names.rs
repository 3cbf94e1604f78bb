//! Names of projects.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail, ensure};

use crate::project::collect;
use crate::template::{Template, read_toml};

/// Names that no project can have, whatever the workspace contains: syntax errors, paths, tags, and reserved words.
const BAD: &[&str] = &[
    "",
    "-shop",
    "1shop",
    "Shop",
    "a__b",
    "shop-",
    "shöp",
    "größe",
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

pub(crate) fn bad_names_are_refused(template: &Template) -> Result<()> {
    // Packages of the workspace have no source.
    let lock = read_toml(&template.folder.join("Cargo.lock"))?;
    let packages = lock["package"].as_array().context("Cargo.lock has no packages")?;
    let ours = packages.iter().filter(|package| package.get("source").is_none());
    let taken = ours.filter_map(|package| package["name"].as_str());

    let folder = template.place("refused");
    for name in taken.chain(BAD.iter().copied()) {
        let Err(error) = template.generate_into(name, &folder, &[]) else { bail!("`{name}` is not refused") };
        let error = error.to_string();
        ensure!(error.contains("cannot be the name of the project"), "`{name}` is refused for another reason: {error}");
        // What is suggested instead of such letters has none of them.
        let instead = error.lines().find_map(|line| Some(line.rsplit_once(", such as ")?.1)).unwrap_or_default();
        ensure!(instead.is_ascii(), "`{name}` is refused with `{instead}` instead");
        let mut written = BTreeSet::new();
        collect(&folder, &folder, &mut written)?;
        ensure!(written.is_empty(), "`{name}` is refused, but {written:?} is there");
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}
