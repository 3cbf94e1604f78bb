//! Checks the template: with each pair of answers, a project has no trace of the template and can be updated; with each
//! example, it builds and passes its tests.
//!
//! ```text
//! cargo run --manifest-path tools/template-check/Cargo.toml
//! cargo run --manifest-path tools/template-check/Cargo.toml -- start     # only what differs between examples, of these
//! cargo run --manifest-path tools/template-check/Cargo.toml -- text      # only what needs no build
//! ```
//!
//! It works in `target/template-check` and builds into the repository's target directory (`target`, or
//! CARGO_TARGET_DIR), so that no dependency is built twice. The generated projects stay there for inspection. What is
//! built of their packages is deleted, and with it what was built of the repository's: the files have the same names.

mod names;
mod options;
mod project;
mod removal;
mod service;
mod template;
mod tree;
mod update;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use options::{Answers, EXAMPLES};
use project::Project;
use template::Template;

/// The tests of a project's documents and configuration.
const TEST_WORDS: [&str; 6] = ["test", "--locked", "--test=blackbox", "--", "docs::", "architecture::"];
/// The tests of the project's own code.
const TEST: [&str; 2] = ["test", "--locked"];
/// The same without the black-box tests of the example's own services, which others beside them do not change.
const TEST_OTHERS: [&str; 11] = [
    "test",
    "--locked",
    "--",
    "--skip=artwork::",
    "--skip=bad_input::",
    "--skip=catalog::",
    "--skip=compose::",
    "--skip=edge::",
    "--skip=events::",
    "--skip=library::",
    "--skip=other_languages::",
];
const LINT: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny=warnings"];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        None => check_all(),
        Some("text") if arguments.len() == 1 => {
            Template::of_this_repository().and_then(|template| check_text(&template))
        }
        Some(_) if arguments.iter().all(|argument| EXAMPLES.contains(&argument.as_str())) => {
            let chosen: Vec<_> =
                EXAMPLES.into_iter().filter(|of| arguments.iter().any(|example| example == of)).collect();
            Template::of_this_repository().and_then(|template| {
                check_answers(&template, &chosen)?;
                check_examples(&template, &chosen)
            })
        }
        // `cargo generate`: this program calls itself in `Template::generate_into`, and the scripts of a project call
        // it, too.
        Some("generate") => {
            let cargo_generate::Cli::Generate(arguments) = cargo_generate::Cli::parse();
            cargo_generate::generate(arguments).map(drop)
        }
        _ => Err(anyhow::anyhow!(
            "unexpected argument: expected none, examples, or `generate` with the arguments of `cargo generate`"
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("template-check: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check_all() -> Result<()> {
    let template = Template::of_this_repository()?;
    check_text(&template)?;
    check_examples(&template, &EXAMPLES)?;
    let shop = options::build(&template, &Answers::with("film"))?;
    check("bad service names are refused", || service::bad_names_are_refused(&shop))?;
    check("a service of any name is formatted, and its removal leaves no trace", || service::is_formatted(&shop))
}

/// What needs no build.
fn check_text(template: &Template) -> Result<()> {
    check("paths in cargo-generate.toml and the hooks exist", || template.names_what_exists())?;
    check("a project with the whole example equals the template", || tree::is_fixed_point(template))?;
    check("a project has nothing that git does not have", || tree::has_nothing_untracked(template))?;
    check("bad project names are refused, and nothing is written", || names::bad_names_are_refused(template))?;
    check("bad answers are refused, and nothing is written", || options::bad_answers_are_refused(template))?;
    check("the command of the README records its template, and says what comes next", || {
        update::is_recorded(template)
    })?;
    check("an update keeps the changes of the project", || update::is_merged(template))?;
    check("an impossible update fails with one line", || update::is_refused(template))?;
    check("without its example a project equals one that had none", || removal::leaves_what_none_has(template))?;
    check("an example that is used or changed is not removed", || removal::keeps_work(template))?;
    check_answers(template, &EXAMPLES)
}

fn check_answers(template: &Template, examples: &[&'static str]) -> Result<()> {
    check("each pair of answers gives the right files", || {
        Answers::pairs(examples)
            .try_for_each(|answers| options::matches_the_answers(template, &answers).context(answers.to_string()))
    })
}

fn check_examples(template: &Template, examples: &[&'static str]) -> Result<()> {
    template.project(template.folder.clone()).delete_products()?;
    // The licence is checked above and does not affect the build.
    for example in examples {
        let shop = builds(template, example)?;
        // `start` has nothing of its own in what differs with Postgres.
        if *example != "start" {
            builds_with_postgres(template, example)?;
        }
        shop.delete_products()?;
    }
    Ok(())
}

fn builds(template: &Template, example: &'static str) -> Result<Project> {
    let answers = Answers::with(example);
    let shop = options::build(template, &answers)?;
    check(&format!("{answers}: the project passes its tests, and they leave git clean"), || {
        if example == "film" {
            // The code is the repository's, as checked above, and is tested there. Documents and configuration differ.
            shop.run("cargo", &TEST_WORDS)?;
        } else {
            shop.run(".ci/run", &[])?;
        }
        if example == "none" {
            // The list of tests differs. The tests themselves are the repository's.
            shop.run("cargo", &["test", "--workspace", "--test=framework", "--locked"])?;
        }
        shop.is_clean()?;
        if example == "none" { passes_without_documents(&shop) } else { Ok(()) }
    })?;
    check(&format!("{answers}: added services are right, and their removal leaves no trace"), || {
        let cargo: &[&str] = match example {
            "start" => &LINT,
            "film" => &TEST_OTHERS,
            _ => &TEST,
        };
        service::come_and_go(&shop, cargo)
    })?;
    Ok(shop)
}

/// An owner may delete both folders.
fn passes_without_documents(shop: &Project) -> Result<()> {
    shop.run("git", &["rm", "--quiet", "-r", "docs", "deploy"])?;
    shop.run("cargo", &["test", "--locked", "--test=blackbox"])?;
    shop.run("cargo", &["test", "--workspace", "--test=framework", "--locked", "--", "templates::", "branches::"])?;
    shop.run("git", &["reset", "--quiet", "--hard"])?;
    shop.is_clean()
}

/// The code is the same. Configuration and documents differ, and so does the configuration of added services.
fn builds_with_postgres(template: &Template, example: &'static str) -> Result<()> {
    let answers = Answers::with(example).on("postgres");
    check(&format!("{answers}: documents and configuration are right, also with added services"), || {
        let shop = options::build(template, &answers)?;
        shop.run("cargo", &TEST_WORDS)?;
        service::come_and_go(&shop, &TEST_WORDS)
    })
}

fn check(what: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let result = run();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("{verdict:<6} {:>6.1} s  {what}", start.elapsed().as_secs_f64());
    result.map_err(|error| error.context(what.to_owned()))
}
