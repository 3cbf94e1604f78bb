//! Lists what runs.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitCode;

use super::ask::{AskOptions, ask};
use super::exit::usage;
use crate::shown::{self, Table, shortened};
use crate::target::Target;

/// The digits of a revision and of a digest that are shown.
const SHOWN: usize = 12;

/// Prints a line for each build.
pub(super) async fn show(
    options: &AskOptions,
    tls: bool,
    target: impl AsyncFnOnce() -> anyhow::Result<Target>,
) -> anyhow::Result<ExitCode> {
    let outside = match options.consumers() {
        Ok(outside) => outside,
        Err(why) => return Ok(usage(&why)),
    };
    let found = ask(options, outside, tls, target).await?;
    if let Err(why) = found.distinct(&[]) {
        return Ok(usage(&why));
    }
    let mut table = Table::new(["SERVICE", "VERSION", "INSTANCES", "MANIFEST", "REVISION", "USES"]);
    for running in &found.running {
        let manifest = &running.build.manifest;
        let begin = |text: &str| text.chars().take(SHOWN).collect::<String>();
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let calls = manifest.calls.iter().filter(|call| !call.optional).map(|call| call.peer.clone());
        let optional = manifest.calls.iter().filter(|call| call.optional).map(|call| call.peer.clone());
        let mut uses: BTreeSet<_> =
            calls.chain(manifest.follows.iter().map(|followed| followed.source.clone())).collect();
        let more: BTreeSet<_> = optional.filter(|peer| !uses.contains(peer)).map(|peer| format!("({peer})")).collect();
        uses.extend(more);
        table.row([
            shown::name(&manifest.service),
            or_none(shown::name(&manifest.version)),
            running.instances.to_string(),
            begin(&manifest.digest),
            or_none(begin(&manifest.revision)),
            shortened(&uses.into_iter().collect::<Vec<_>>().join(", "), 80),
        ]);
    }
    if table.is_empty() {
        shown::note(&format!("nothing runs, as {} says", found.origin));
    } else {
        write!(io::stdout(), "{table}")?;
    }
    found.unknown.iter().for_each(|why| shown::note(&format!("UNKNOWN {}", shown::sentence(why))));
    let fails = options.strict && !found.unknown.is_empty();
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
