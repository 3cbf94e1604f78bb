//! Checks the tools and the ports of this machine, and prints a remedy for each problem.
//!
//! Only requirements of `cargo run` and `cargo test` are needed; a missing optional tool is a line of the report, not a
//! failure.
//!
//! Modules: [`tools`] checks programs, [`ports`] checks the addresses of this project's processes, [`holder`] finds the
//! process that listens on a port, [`finding`] is a line of the report.

mod finding;
mod holder;
mod ports;
mod tools;

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::shown::{self, Table};
use finding::{Finding, Need};

/// Prints the report. The exit code is 1 if a needed tool or port is bad, else 0.
pub(crate) fn doctor() -> anyhow::Result<ExitCode> {
    let mut findings = tools::look();
    findings.extend(ports::look()?);
    // Needed ones first.
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
        writeln!(out, "optional, and not available: {optional}")?;
    }
    let needed = bad(&findings, Need::Needed);
    if needed.is_empty() {
        writeln!(out, "`cargo run` and `cargo test` have all they need")?;
        return Ok(ExitCode::SUCCESS);
    }
    drop(out);
    shown::error(&format!("`cargo run` or `cargo test` needs: {needed}"));
    Ok(ExitCode::FAILURE)
}

/// The bad findings on one line.
fn bad(findings: &[Finding], need: Need) -> String {
    let bad = findings.iter().filter(|finding| finding.need == need && finding.state.is_bad());
    bad.map(|bad| format!("{} ({})", bad.what, bad.state.word())).collect::<Vec<_>>().join(", ")
}
