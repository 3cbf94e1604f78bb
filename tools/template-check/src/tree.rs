//! The files of a project, compared with those of the template.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::project::Project;
use crate::template::{self, Template};

/// Checks that a project with the whole example equals the template without the template's own files.
pub(crate) fn is_fixed_point(template: &Template) -> Result<()> {
    let project = template.generate("fixed-point", &["--define=example=film"])?;
    let mut expected = BTreeSet::new();
    for file in template.files.iter().filter(|file| !template.owns(file)) {
        expected.insert(twin_of(file).unwrap_or_else(|| file.clone()));
    }
    let found = project.files()?;

    let mut differences = Vec::new();
    differences.extend(expected.difference(&found).map(|file| format!("{} is missing", file.display())));
    differences.extend(found.difference(&expected).map(|file| format!("{} is unexpected", file.display())));
    for file in expected.intersection(&found) {
        let (ours, theirs) = (template.folder.join(file), project.folder.join(file));
        let has_twin = template.files.iter().any(|other| twin_of(other).as_ref() == Some(file));
        let same = match template.rendered.contains(file) {
            // A different text on purpose.
            _ if has_twin => true,
            true => same_but_for_tags(&ours, &theirs)?,
            false => fs::read(&ours)? == fs::read(&theirs)? && mode(&ours)? == mode(&theirs)?,
        };
        if !same {
            differences.push(format!("{} differs from {}", theirs.display(), ours.display()));
        }
    }
    ensure!(differences.is_empty(), "\n{}", differences.join("\n"));
    Ok(())
}

/// What a working folder has and git does not. No project may have it, least of all the key of a certificate authority.
const UNTRACKED: [&str; 18] = [
    ".env",
    ".git",
    ".mesh/ca/ca.key",
    ".mesh/ca/catalog.pem",
    ".tools/bin/consul",
    ".venv/pyvenv.cfg",
    "catalog.db",
    "catalog.db-wal",
    "data/catalog.db.lock",
    "deploy/tls.crt",
    "deploy/tls.key",
    "deploy/tls.pem",
    "examples/ratings/__pycache__/main.pyc",
    "examples/recommendations/.venv/pyvenv.cfg",
    "examples/recommendations/generated/catalog_pb2.py",
    "node_modules/grpc/index.js",
    "out/index.html",
    "target/debug/catalog",
];

/// Checks that a project made of a working folder has only what git has.
pub(crate) fn has_nothing_untracked(template: &Template) -> Result<()> {
    let ignored = fs::read_to_string(template.folder.join(".gitignore"))?;
    let patterns = fs::read_to_string(template.folder.join(".genignore"))?;
    for pattern in patterns.lines().filter(|line| !line.starts_with('#') && !line.contains("examples/") && *line != "/.git") {
        let same = ignored.lines().any(|line| line.trim_matches('/') == pattern.trim_matches('/'));
        ensure!(same, ".gitignore has no {pattern}, which .genignore has");
    }
    for file in UNTRACKED {
        let path = template.folder.join(file);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(path, "secret")?;
    }
    let checked = is_fixed_point(template);
    for file in UNTRACKED {
        fs::remove_file(template.folder.join(file))?;
        // Of its folders, those that are empty now.
        for folder in Path::new(file).ancestors().skip(1) {
            let _ = fs::remove_dir(template.folder.join(folder));
        }
    }
    checked
}

/// Checks for files of the template's own, for its name, and for tags that were not rendered.
pub(crate) fn has_no_trace(template: &Template, project: &Project) -> Result<()> {
    let mut traces = Vec::new();
    for file in project.files()? {
        if template.owns(&file) || twin_of(&file).is_some() {
            traces.push(format!("{} is the template's own", file.display()));
        }
        let path = project.folder.join(&file);
        if path.is_dir() {
            traces.push(format!("{} is empty", file.display()));
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(path)?).into_owned();
        let rendered = template.rendered.contains(&file);
        for (number, line) in (1..).zip(text.lines()) {
            if line.contains(template::NAME) || rendered && (line.contains("{%") || line.contains("{{")) {
                traces.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    ensure!(traces.is_empty(), "\n{}", traces.join("\n"));
    Ok(())
}

/// The file that this one replaces in a project.
fn twin_of(file: &Path) -> Option<PathBuf> {
    file.to_str()?.strip_suffix(".liquid").map(PathBuf::from)
}

/// Compares line by line. Of a line with tags, it compares the text before the first tag and after the last.
fn same_but_for_tags(ours: &Path, theirs: &Path) -> Result<bool> {
    let (ours, theirs) = (fs::read_to_string(ours)?, fs::read_to_string(theirs)?);
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.lines().collect(), theirs.lines().collect());
    let same = |(our, their): (&&str, &&str)| match (our.split_once("{%"), our.rsplit_once(['}'])) {
        (Some((before, _)), Some((_, behind))) => their.starts_with(before) && their.ends_with(behind),
        _ => our == their,
    };
    Ok(ours.len() == theirs.len() && ours.iter().zip(&theirs).all(same))
}

#[cfg(unix)]
fn mode(file: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(file.metadata().context("metadata")?.permissions().mode())
}

#[cfg(not(unix))]
fn mode(_: &Path) -> Result<u32> {
    Ok(0)
}
