//! The answers, and the projects that they give.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};

use crate::project::{Project, collect};
use crate::template::{Template, read_toml};
use crate::tree;

pub(crate) const EXAMPLES: [&str; 3] = ["start", "film", "none"];
const DATABASES: [&str; 2] = ["sqlite", "postgres"];
const DEPLOYS: [&str; 4] = ["all", "container", "kubernetes", "systemd"];
const LICENSES: [&str; 4] = ["MIT OR Apache-2.0", "MIT", "Apache-2.0", "none"];

/// The service that is added to every project.
const ADDED: &str = "reviews";

#[derive(Clone, Copy)]
pub(crate) struct Answers {
    example: &'static str,
    database: &'static str,
    deploy: &'static str,
    license: &'static str,
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { example, database, deploy, license } = self;
        write!(f, "example={example}, database={database}, deploy={deploy}, license={license}")
    }
}

impl Answers {
    /// An example, with the defaults of all other answers.
    pub(crate) fn with(example: &'static str) -> Self {
        Self { example, database: DATABASES[0], deploy: DEPLOYS[0], license: LICENSES[0] }
    }

    /// Combinations with each pair of answers to two of the questions, but for licences and places to run, which share
    /// no file.
    pub(crate) fn pairs(examples: &[&'static str]) -> impl Iterator<Item = Self> {
        let each = |example: &'static str| {
            let first = EXAMPLES.iter().position(|of| *of == example).unwrap_or_default();
            let databases = DATABASES.into_iter().cycle().skip(first);
            let deploys = DEPLOYS.into_iter().cycle().skip(2 * first);
            let others = databases.zip(deploys);
            LICENSES.into_iter().zip(others).map(move |(license, (database, deploy))| Self {
                example,
                database,
                deploy,
                license,
            })
        };
        examples.iter().copied().flat_map(each)
    }

    pub(crate) fn on(self, database: &'static str) -> Self {
        Self { database, ..self }
    }

    fn generate(&self, template: &Template, place: &str) -> Result<Project> {
        let define = |name, value| format!("--define={name}={value}");
        let answers = [
            define("example", self.example),
            define("database", self.database),
            define("deploy", self.deploy),
            define("license", self.license),
        ];
        template.generate(place, &answers.each_ref().map(String::as_str))
    }
}

pub(crate) fn bad_answers_are_refused(template: &Template) -> Result<()> {
    let folder = template.place("refused");
    let bad = ["example=flim", "example=", "example=Film", "database=mysql", "database=sqlite,postgres", "license=GPL", "deploy=nomad"];
    for answer in bad {
        let define = format!("--define={answer}");
        let Err(error) = template.generate_into("shop", &folder, &[&define]) else {
            bail!("`{answer}` is not refused")
        };
        let value = answer.split_once('=').map_or("", |(_, value)| value);
        ensure!(error.to_string().contains(value), "`{answer}` is refused for another reason: {error}");
        let mut written = BTreeSet::new();
        collect(&folder, &folder, &mut written)?;
        // cargo-generate creates the folder before it asks.
        written.remove(&PathBuf::from("shop"));
        ensure!(written.is_empty(), "`{answer}` is refused, but {written:?} is there");
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// Checks that need no build.
pub(crate) fn matches_the_answers(template: &Template, answers: &Answers) -> Result<()> {
    let project = answers.generate(template, "asked-for")?;
    tree::has_no_trace(template, &project)?;
    every_test_is_compiled(&project)?;
    locks_what_it_needs(&project)?;

    let license = read_toml(&project.folder.join("Cargo.toml"))?;
    let license = license["workspace"]["package"]["license"].as_str().context("no licence")?.to_owned();
    let expected = if answers.license == "none" { "LicenseRef-Proprietary" } else { answers.license };
    ensure!(license == expected, "Cargo.toml has the licence {license}");
    for (text, name) in [("LICENSE-MIT", "MIT"), ("LICENSE-APACHE", "Apache-2.0")] {
        ensure!(
            project.folder.join(text).exists() == license.contains(name),
            "with the licence {license}, {text} is missing or should be"
        );
    }

    for (folder, kept) in [
        ("deploy/container", &["all", "container", "kubernetes"][..]),
        ("deploy/kubernetes", &["all", "kubernetes"]),
        ("deploy/systemd", &["all", "systemd"]),
    ] {
        ensure!(
            project.folder.join(folder).exists() == kept.contains(&answers.deploy),
            "{folder} is missing, or should be"
        );
    }

    its_answers_reproduce_it(template, &project)?;
    // The licence does not affect the database. With two of them, `pairs` has both databases.
    if LICENSES[..2].contains(&answers.license) { has_the_chosen_database(answers, &project) } else { Ok(()) }
}

/// Checks mesh.toml, which an added service does not change.
fn has_the_chosen_database(answers: &Answers, project: &Project) -> Result<()> {
    project.commit()?;
    project.run("scripts/new-service", &[ADDED])?;
    let mesh = read_toml(&project.folder.join("mesh.toml"))?;
    let services: Vec<_> =
        mesh.get("services").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys).collect();
    let expected: &[&str] = match answers.example {
        "start" => &["catalog", "artwork"],
        "film" => &["catalog", "artwork", "billing", "library", "composer", "mobile", "tv"],
        _ => &[],
    };
    ensure!(services == expected, "mesh.toml has the services {services:?}");
    let url = mesh.get("database").and_then(|table| table.get("url")?.as_str());
    let expected = (answers.database == "postgres").then_some("postgres://localhost/{service}");
    ensure!(url == expected, "mesh.toml has {url:?} as the URL of databases");
    locks_what_it_needs(project)?;
    project.run("scripts/remove-service", &[ADDED])?;
    project.is_clean()
}

/// A test file without a `mod` is never compiled: for example one of the film that is missing in the list of ignored
/// paths.
fn every_test_is_compiled(project: &Project) -> Result<()> {
    let lists = [
        ("tests/blackbox", "main.rs"),
        ("tests/framework", "framework.rs"),
        ("tests/framework/film", "mod.rs"),
        ("tests/framework/rentals", "mod.rs"),
        ("tests/harness/src", "lib.rs"),
    ];
    for (folder, list) in lists {
        let place = project.folder.join(folder);
        // Other examples lack folders of the film.
        if !place.exists() {
            continue;
        }
        let contents = fs::read_to_string(place.join(list))?;
        for entry in fs::read_dir(place)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let named = [list, "Cargo.toml"].contains(&&*name)
                || contents.contains(&format!("mod {};", name.trim_end_matches(".rs")));
            ensure!(named, "{folder}/{list} does not name `{name}`: add a `mod`, or ignore it in cargo-generate.toml");
        }
    }
    Ok(())
}

/// Checks that cargo would not change Cargo.lock.
fn locks_what_it_needs(project: &Project) -> Result<()> {
    let lock = project.folder.join("Cargo.lock");
    let before = fs::read_to_string(&lock)?;
    // Not `--offline`: on a machine that has built nothing yet, cargo has to download the dependencies first.
    let locked = project.run("cargo", &["metadata", "--locked", "--format-version=1"]);
    // Without `--locked`, cargo writes the file that it expects.
    project.run("cargo", &["metadata", "--format-version=1"])?;
    let after = fs::read_to_string(&lock)?;
    let packages = |text: &str| text.lines().filter(|line| line.starts_with("name = ")).map(str::to_owned).collect();
    let (before_it, after_it): (BTreeSet<String>, BTreeSet<String>) = (packages(&before), packages(&after));
    let changes: Vec<_> = before_it.symmetric_difference(&after_it).collect();
    ensure!(before == after, "cargo changes Cargo.lock, by {changes:?}: see hooks/options.rhai");
    locked.map(drop)
}

/// Checks that .mesh/answers.toml is a values file with every answer.
fn its_answers_reproduce_it(template: &Template, project: &Project) -> Result<()> {
    let answers = format!("--values-file={}", project.folder.join(".mesh/answers.toml").display());
    let again = template.generate("again", &[&answers])?;
    ensure!(
        project.contents()? == again.contents()?,
        "its answers give another project: diff -r {0}/asked-for {0}/again",
        template.place("").display()
    );
    Ok(())
}

/// A project to build. Projects with the same example share a folder, and only files that differ are written: so cargo
/// rebuilds only what the answers change.
pub(crate) fn build(template: &Template, answers: &Answers) -> Result<Project> {
    let made = answers.generate(template, "made")?;
    let project = template.project(template.place("projects").join(answers.example).join("shop"));
    fs::create_dir_all(&project.folder)?;
    project.become_like(&made)?;
    project.commit()?;
    Ok(project)
}
