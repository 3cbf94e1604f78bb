//! scripts/remove-example, compared with a project that was generated without an example.

use anyhow::{Result, bail, ensure};

use crate::project::Project;
use crate::template::Template;
use crate::update::{Versions, edit};

/// A project that knows its template, committed, with cargo-generate on PATH.
fn project(template: &Template, versions: &Versions, example: &str) -> Result<Project> {
    let answers = [
        format!("--define=example={example}"),
        format!("--define=template={}", versions.template.folder.display()),
        format!("--define=template_version={}", versions.old),
    ];
    let made = template.generate(&format!("removal/{example}"), &answers.each_ref().map(String::as_str))?;
    made.commit()?;
    versions.with_cargo_generate(template, made)
}

/// Services of the owner's own: before, between and behind those of the example in the alphabet.
const OWN: [&[&str]; 3] = [&["aa"], &["bb", "--publishes"], &["zz", "--long-work", "--follows", "bb"]];

pub(crate) fn leaves_what_none_has(template: &Template) -> Result<()> {
    let versions = Versions::of(template)?;
    for example in ["start", "film"] {
        let none = project(template, &versions, "none")?;
        let shop = project(template, &versions, example)?;
        let remove = || -> Result<()> {
            let printed = shop.run("scripts/remove-example", &[])?;
            ensure!(printed.contains(&format!("removed the example {example}")), "it printed {printed}");
            shop.is_clean()?;
            let same = shop.contents()? == none.contents()?;
            ensure!(same, "diff -r {} {}", shop.folder.display(), none.folder.display());
            shop.run("cargo", &["metadata", "--locked", "--format-version=1"])?;
            let subject = shop.run("git", &["log", "-1", "--format=%s"])?;
            ensure!(subject.trim() == format!("Remove the example {example}"), "the commit is {subject}");
            Ok(())
        };
        remove()?;
        shop.run("git", &["switch", "--quiet", "-"])?;
        shop.run("git", &["branch", "--quiet", "-D", "without-example"])?;
        for arguments in OWN {
            none.run("scripts/new-service", arguments)?;
            shop.run("scripts/new-service", arguments)?;
        }
        none.commit()?;
        shop.commit()?;
        remove()?;
    }
    Ok(())
}

pub(crate) fn keeps_work(template: &Template) -> Result<()> {
    let versions = Versions::of(template)?;
    let shop = project(template, &versions, "start")?;
    let refused = |why: &str| -> Result<()> {
        let Err(error) = shop.run("scripts/remove-example", &[]) else { bail!("not refused: {why}") };
        ensure!(error.to_string().contains(why), "`{why}` is refused with {error}");
        Ok(())
    };
    shop.run("scripts/new-service", &["pages", "--composes", "catalog,artwork"])?;
    refused("commit or stash them first")?;
    shop.commit()?;
    refused("is used by: proto/pages, services/pages. Remove these uses first")?;
    shop.is_clean()?;
    shop.run("scripts/remove-service", &["pages"])?;
    edit(&shop, "services/catalog/src/rpc.rs", "//! ", "//! Mine. ")?;
    shop.commit()?;
    refused("services/catalog/src/rpc.rs")?;
    shop.run("git", &["cherry-pick", "--abort"])?;
    shop.is_clean()
}
