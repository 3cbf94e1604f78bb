//! Checks that the repository is a template, and that what it gives works: a project that builds, passes its tests, and
//! bears no trace of where it comes from.
//!
//! ```text
//! cargo run --manifest-path tools/template-check/Cargo.toml
//! ```
//!
//! It works in `target/template-check`, and builds into the same target directory as the repository (`target`, or what
//! CARGO_TARGET_DIR says), so that no dependency is built twice. What it made stays there, to be looked at.

mod names;
mod project;
mod service;
mod template;
mod tree;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use template::Template;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [] => check_all(),
        // How this program calls itself; see `Template::generate`.
        ["generate", from, name, into] => template::generate(from, name, into),
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
    check("under its own name the template gives itself", || tree::is_fixed_point(&template))?;
    check("a bad name is refused, and nothing is written", || names::bad_ones_are_refused(&template))?;
    check("whatever the name, cargo has nothing to change in Cargo.lock", || names::lock_is_sorted(&template))?;

    let shop = template.generate("shop")?;
    check("a project holds nothing of the template", || tree::has_no_trace(&template, &shop))?;
    shop.commit()?;
    check("a project passes its tests, and they leave it clean", || {
        shop.run("cargo", &["test", "--workspace", "--locked"])?;
        shop.is_clean()
    })?;
    check("a service is not added under a bad name", || service::bad_names_are_refused(&shop))?;
    check("a service of any name is formatted, and goes without a trace", || service::is_formatted(&shop))?;
    check("a service is added, passes its tests, and goes without a trace", || service::comes_and_goes(&shop))
}

fn check(what: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let result = run();
    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
    println!("{verdict:<6} {:>6.1} s  {what}", start.elapsed().as_secs_f64());
    result.map_err(|error| error.context(what.to_owned()))
}
