//! Checks that the repository is a template, and that what it gives works: whatever is answered, a project that builds,
//! passes its tests, bears no trace of where it comes from, and can be brought up to date.
//!
//! ```text
//! cargo run --manifest-path tools/template-check/Cargo.toml
//! ```
//!
//! It works in `target/template-check`, and builds into the same target directory as the repository (`target`, or what
//! CARGO_TARGET_DIR says), so that no dependency is built twice. What it made stays there, to be looked at.

mod names;
mod options;
mod project;
mod service;
mod template;
mod tree;
mod update;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use options::Answers;
use template::Template;

/// What a project says of itself: its documents, and its configuration.
const TEST_WORDS: [&str; 6] = ["test", "--locked", "--test=blackbox", "--", "docs::", "architecture::"];
/// What its owner owns.
const TEST: [&str; 2] = ["test", "--locked"];
const LINT: [&str; 6] = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny=warnings"];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        None => check_all(),
        // As `cargo generate` is called: by this program, see `Template::generate_into`, and by the scripts of a project.
        Some("generate") => {
            let cargo_generate::Cli::Generate(arguments) = cargo_generate::Cli::parse();
            cargo_generate::generate(arguments).map(drop)
        }
        _ => Err(anyhow::anyhow!("takes no arguments")),
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
    check("what cargo-generate.toml and the hooks name is there", || template.names_what_exists())?;
    check("with the defaults the template gives itself", || tree::is_fixed_point(&template))?;
    check("a bad name is refused, and nothing is written", || names::bad_ones_are_refused(&template))?;
    check("a bad answer is refused, and nothing is written", || options::bad_ones_are_refused(&template))?;
    check("whatever is answered, the project is what was asked for", || {
        Answers::all()
            .try_for_each(|answers| options::is_what_was_asked_for(&template, &answers).context(answers.to_string()))
    })?;
    check("a project is updated, and keeps what was made of it", || update::is_merged(&template))?;
    check("what cannot be updated is said in a line", || update::is_refused(&template))?;

    // What a licence does is seen by now: nothing is built of it.
    for example in options::EXAMPLES {
        builds(&template, example)?;
        builds_with_postgres(&template, example)?;
    }
    let shop = options::build(&template, &Answers::with("film"))?;
    check("a service is not added under a bad name", || service::bad_names_are_refused(&shop))?;
    check("a service of any name is formatted, and goes without a trace", || service::is_formatted(&shop))
}

fn builds(template: &Template, example: &'static str) -> Result<()> {
    let answers = Answers::with(example);
    let shop = options::build(template, &answers)?;
    check(&format!("{answers}: it passes its tests, and they leave it clean"), || {
        if example == "film" {
            // The code is the repository's, as is seen above, and is tested there. What it says of itself is another thing.
            shop.run("cargo", &TEST_WORDS)?;
        } else {
            shop.run(".ci/run", &[])?;
            // Its list of tests is another one. Mesh's other tests are the repository's, too.
            shop.run("cargo", &["test", "--package=framework-tests", "--locked"])?;
        }
        shop.is_clean()
    })?;
    check(&format!("{answers}: services are added, pass their tests, and go without a trace"), || {
        service::come_and_go(&shop, &TEST)
    })
}

/// The code is the same. The configuration is another one, and the documents, and services that are added are told.
fn builds_with_postgres(template: &Template, example: &'static str) -> Result<()> {
    let answers = Answers::with(example).on("postgres");
    check(&format!("{answers}: what it says of itself is true, with services that are added, too"), || {
        let shop = options::build(template, &answers)?;
        shop.run("cargo", &TEST_WORDS)?;
        service::come_and_go(&shop, &LINT)
    })
}

fn check(what: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let result = run();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("{verdict:<6} {:>6.1} s  {what}", start.elapsed().as_secs_f64());
    result.map_err(|error| error.context(what.to_owned()))
}
