//! Lists, follows and traces what services publish, and shows and repairs the copies that others keep of it.

pub(crate) mod followers;
pub(crate) mod sources;
pub(crate) mod text;
pub(crate) mod trace;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::anyhow;
use mesh_client::EventSubscription;
use mesh_proto::mesh::events::v1::subscribe_response::Frame;

use crate::reflection;
use crate::shown::{self, Table};
use crate::target::Target;
use sources::{sources, sources_of};
use text::{line, object, short};

/// Prints the services that publish events, with the bounds of their logs.
pub(crate) async fn list(target: &Target) -> anyhow::Result<ExitCode> {
    let (sources, errors) = sources(target).await?;
    let mut table = Table::new(["SOURCE", "HEAD", "KEPT", "OLDEST", "NEWEST", "TYPES"]);
    let now = SystemTime::now();
    for (_, source) in sources {
        let kept = (source.head - source.floor + 1).max(0).to_string();
        let types = source.types.iter().map(|name| short(name)).collect::<Vec<_>>().join(", ");
        let ages = [source.floor_time, source.head_time].map(|time| shown::age(time, now));
        let [oldest, newest] = ages;
        table.row([source.name, source.head.to_string(), kept, oldest, newest, types]);
    }
    if !table.is_empty() {
        write!(io::stdout(), "{table}")?;
    } else if errors.is_empty() {
        shown::note("no service publishes events");
    }
    Ok(shown::reported(&errors))
}

/// Prints each event of a service, the new ones only or its present state first.
pub(crate) async fn follow(
    name: &str,
    types: Vec<String>,
    snapshot: bool,
    json: bool,
    target: &Target,
) -> anyhow::Result<ExitCode> {
    let process = target.process(name).await?;
    let known = sources_of(&process).await?;
    let source = known.into_iter().find(|source| source.name == name).ok_or_else(|| {
        anyhow!("`{name}` publishes no events, or no process serves it: `mesh events list` lists the sources")
    })?;
    if let Some(wrong) = types.iter().find(|asked| !source.types.contains(asked)) {
        return Err(anyhow!("`{name}` publishes no `{wrong}`: it publishes {}", source.types.join(", ")));
    }
    let messages = reflection::types(&process).await;
    let (cursor, begin) = if snapshot {
        (Vec::new(), "with its present state".to_owned())
    } else {
        (source.cursor, format!("behind position {}", source.head))
    };
    shown::note(&format!("following `{name}` {begin}; Ctrl-C ends it"));
    let mut subscription = EventSubscription::new(process.channel, name, cursor).types(types);
    loop {
        let response = tokio::select! {
            response = subscription.next() => response.map_err(|status| anyhow!(shown::status(&status)))?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(shown::INTERRUPTED)),
        };
        match response.frame {
            Some(Frame::Event(event) | Frame::Snapshot(event)) => {
                let line = if json { object(&event, &messages) } else { line(&event, &messages) };
                writeln!(io::stdout(), "{}", shown::one_line(&line))?;
            }
            Some(Frame::Reset(_)) => {
                shown::note("some events are no longer kept and were missed; the present state follows");
            }
            _ => {}
        }
    }
}
