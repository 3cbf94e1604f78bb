//! What this machine has of what a mesh needs, and what brings the rest.
//!
//! Needed is only what `cargo run` and `cargo test` cannot do without; everything else is for one thing or another that
//! somebody may never want, and its absence is worth a line, not a failure.
//!
//! Rooms: [`tools`] knows the programs, [`ports`] where the processes of this project want to listen, [`holder`] who is
//! there instead.

mod finding;
mod holder;
mod ports;
mod tools;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::shown::{self, Table};
use finding::{Finding, Need};

/// Looks at everything, and tells it. The exit code is 1 if something needed is not as it must be.
pub(crate) fn doctor() -> anyhow::Result<ExitCode> {
    let mut findings = tools::look();
    findings.extend(ports::look()?);
    // What is needed first.
    findings.sort_by_key(|finding| finding.need);

    let mut table = Table::new(["WHAT", "NEED", "STATE", "FOUND", "FOR", "TO DO"]);
    for Finding { what, need, state, found, serves, remedy } in &findings {
        let remedy = if state.is_bad() { remedy.clone() } else { String::new() };
        table.row([what, need.word(), state.word(), found, serves, &remedy].map(ToOwned::to_owned));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{table}")?;

    let optional = bad(&findings, Need::Optional);
    if !optional.is_empty() {
        writeln!(out, "optional, and not there for those who want it: {optional}")?;
    }
    let needed = bad(&findings, Need::Needed);
    if needed.is_empty() {
        writeln!(out, "`cargo run` and `cargo test` have all they need")?;
        return Ok(ExitCode::SUCCESS);
    }
    drop(out);
    shown::complain(&format!("`cargo run` or `cargo test` cannot do without: {needed}"));
    Ok(ExitCode::FAILURE)
}

/// What is not as it must be, in a line.
fn bad(findings: &[Finding], need: Need) -> String {
    let bad = findings.iter().filter(|finding| finding.need == need && finding.state.is_bad());
    bad.map(|bad| format!("{} ({})", bad.what, bad.state.word())).collect::<Vec<_>>().join(", ")
}
