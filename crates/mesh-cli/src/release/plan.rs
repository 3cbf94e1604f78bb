//! Prints plans and checks.

use std::io::{self, Write as _};
use std::process::ExitCode;

use mesh_release::{Plan, Running, Severity, Step, System, Verdict};

use super::ask::{AskOptions, Found, ask};
use super::exit::{BLOCKED, TOGETHER, usage};
use super::files::{Given, read, read_all};
use crate::shown::{self, name, one_line, sentence};
use crate::target::Target;

/// Plans a deployment.
pub(super) async fn plan(
    options: &AskOptions,
    deploy: &[Given],
    tls: bool,
    target: impl AsyncFnOnce() -> anyhow::Result<Target>,
) -> anyhow::Result<ExitCode> {
    // The files first: a mistake there needs no mesh.
    let (deploy, outside) = match (read_all(deploy).await, options.consumers()) {
        (Ok(deploy), Ok(outside)) => (deploy, outside),
        (Err(why), _) | (_, Err(why)) => return Ok(usage(&why)),
    };
    let found = ask(options, outside, tls, target).await?;
    if let Err(why) = found.distinct(&deploy) {
        return Ok(usage(&why));
    }
    let (text, code) = planned(&found, deploy);
    write!(io::stdout(), "{text}")?;
    Ok(strictly(options, &found, code))
}

/// Checks the builds of a service that run, or one that is to be deployed.
pub(super) async fn check(
    service: &str,
    options: &AskOptions,
    deploy: Option<&Given>,
    tls: bool,
    target: impl AsyncFnOnce() -> anyhow::Result<Target>,
) -> anyhow::Result<ExitCode> {
    let deploy = match deploy {
        Some(deploy) => match read(deploy).await {
            Ok(build) if build.service() == service => Some(build),
            Ok(build) => {
                return Ok(usage(&format!("--deploy is a build of `{}`, and not of `{service}`", build.service())));
            }
            Err(why) => return Ok(usage(&why)),
        },
        None => None,
    };
    let outside = match options.consumers() {
        Ok(outside) => outside,
        Err(why) => return Ok(usage(&why)),
    };
    let found = ask(options, outside, tls, target).await?;
    if let Err(why) = found.distinct(deploy.as_slice()) {
        return Ok(usage(&why));
    }
    if let Some(build) = deploy {
        let (text, code) = planned(&found, vec![build]);
        write!(io::stdout(), "{text}")?;
        return Ok(strictly(options, &found, code));
    }
    if !found.runs(service) {
        shown::error(&format!("no instance of `{service}` runs: --deploy checks a build before it is deployed"));
        return Ok(ExitCode::FAILURE);
    }
    let (mut text, mut code) = (running(&found), 0);
    let system = System { running: found.running.clone(), deploy: Vec::new() };
    for (severity, what) in system.check(service) {
        let word = if severity == Severity::Broken { "BROKEN  " } else { "degraded" };
        text += &format!("{word}  {}\n", sentence(&what));
        code = if severity == Severity::Broken { BLOCKED } else { code };
    }
    if code == 0 {
        text += &format!("{service} fits all that runs\n");
    }
    write!(io::stdout(), "{text}")?;
    Ok(strictly(options, &found, code))
}

/// The exit code: with `--strict`, nothing may be unknown.
fn strictly(options: &AskOptions, found: &Found, code: u8) -> ExitCode {
    if options.strict && !found.unknown.is_empty() {
        shown::error("--strict: what some instances call is UNKNOWN");
        return ExitCode::FAILURE;
    }
    ExitCode::from(code)
}

/// A plan as text, and its exit code.
fn planned(found: &Found, deploy: Vec<mesh_release::Build>) -> (String, u8) {
    let plan = System { running: found.running.clone(), deploy }.plan();
    let code = match plan.verdict() {
        Verdict::Apart => 0,
        Verdict::Blocked => BLOCKED,
        Verdict::Together => TOGETHER,
    };
    (running(found) + &text(&plan, found), code)
}

/// The line of what runs, and those of what is not known.
pub(super) fn running(found: &Found) -> String {
    let builds: Vec<_> = found.running.iter().map(|running| &running.build).collect();
    let shown = |Running { build, instances }: &Running| {
        let others = builds.iter().filter(|other| other.service() == build.service());
        format!("{} {} ×{instances}", name(build.service()), name(&build.version(others)))
    };
    let all: Vec<_> = found.running.iter().map(shown).collect();
    let all = if all.is_empty() { "nothing".to_owned() } else { all.join(", ") };
    let unknown: String = found.unknown.iter().map(|why| format!("UNKNOWN {}\n", sentence(why))).collect();
    format!("running ({}): {all}\n{unknown}", one_line(&found.origin))
}

fn text(plan: &Plan, found: &Found) -> String {
    let mut lines = Vec::new();
    if !plan.blocked.is_empty() {
        lines.push("BLOCKED".to_owned());
        lines.extend(plan.blocked.iter().map(|why| format!("  {why}")));
    } else {
        for (number, step) in plan.steps.iter().enumerate() {
            lines.extend(step_lines(number + 1, plan.steps.len(), step, found));
        }
        let groups = plan.back.iter().map(|group| group.join(" + ")).collect::<Vec<_>>().join(", ");
        if !groups.is_empty() {
            lines.push(format!("back    {groups}"));
        }
        lines.extend(plan.no_way_back.iter().map(|why| format!("no way back: {why}")));
    }
    lines.extend(plan.degraded.iter().map(|why| format!("degraded: {why}")));
    lines.into_iter().map(|line| format!("{}\n", line_of(&line))).collect()
}

/// A line without control characters, with the spaces at its begin.
fn line_of(line: &str) -> String {
    let text = line.trim_start();
    format!("{}{}", " ".repeat(line.len() - text.len()), sentence(text))
}

fn step_lines(number: usize, count: usize, step: &Step, found: &Found) -> Vec<String> {
    let change = |change: &mesh_release::Change| {
        let from: Vec<_> = change.from.iter().filter(|from| **from != change.to).cloned().collect();
        match (from.is_empty(), change.from.is_empty()) {
            (false, _) => format!("{} {} → {}", change.service, from.join(", "), change.to),
            (true, true) if found.is_unknown(&change.service) => {
                format!("{} {} (what runs of it is UNKNOWN)", change.service, change.to)
            }
            (true, true) => format!("{} {} (new)", change.service, change.to),
            (true, false) => format!("{} {} (runs already)", change.service, change.to),
        }
    };
    if let [only] = &step.changes[..] {
        let begin = format!("step {number}  {}", change(only));
        let mut after = step.after.iter().map(|(service, why, more)| {
            let more = if *more > 0 { format!(" (and {more} more)") } else { String::new() };
            format!("after {service}: {why}{more}")
        });
        let first = after.next().unwrap_or_else(|| "alone".to_owned());
        let rest = after.map(|why| format!("        {why}"));
        return [format!("{begin}  {first}")].into_iter().chain(rest).collect();
    }
    let all =
        step.changes.iter().map(|change| format!("{} {}", change.service, change.to)).collect::<Vec<_>>().join(" + ");
    let begin = if count > 1 { format!("step {number}  TOGETHER  {all}") } else { format!("TOGETHER  {all}") };
    let after = step.after.iter().map(|(service, why, _)| format!("  after {service}: {why}"));
    let why = step.together.iter().map(|why| format!("  {why}"));
    let part = step.to_part.iter().map(|way| format!("  to part them: {way}"));
    [begin].into_iter().chain(after).chain(why).chain(part).collect()
}
