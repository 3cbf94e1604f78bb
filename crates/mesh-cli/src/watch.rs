//! Follows an operation to its end: a bar on a terminal, elsewhere a line for every change. Or all that a service does,
//! a line for every change.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use mesh_client::{Subscription, watch_until_done};
use mesh_proto::google::longrunning::{Operation, operation};
use mesh_proto::mesh::operations::v1::subscribe_response::Frame;
use mesh_proto::mesh::operations::v1::{OperationMetadata, State};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::message::Types;
use crate::operations::name::Name;
use crate::operations::text::{metadata, progress, state};
use crate::operations::{get, unanswered};
use crate::target::{Process, Target};
use crate::{reflection, shown};

/// How wide a full bar is.
const WIDTH: u64 = 20;
/// What a shell says of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 128 + 2;
/// Between two searches for a service that has moved.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows every change of the operation until there are no more.
pub(crate) async fn watch(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    // The helper waits for whoever is away, and would wait for ever for somebody who does not even speak gRPC.
    get(&process, name).await?;
    let types = reflection::types(&process).await;
    let mut screen = Screen { live: io::stdout().is_terminal(), revision: 0, types };
    let closed = Notify::new();
    let told = |operation: &Operation| {
        if screen.show(operation).is_err() {
            closed.notify_one();
        }
    };
    let followed = tokio::select! {
        followed = follow(target, process, name, told) => Some(followed),
        () = closed.notified() => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        _ = tokio::signal::ctrl_c() => None,
    };
    screen.leave();
    let Some(followed) = followed else {
        shown::remark("not watched any more; the operation goes on");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let done = followed?;
    match done.result {
        // Which it says itself.
        Some(operation::Result::Error(error)) if metadata(&done).state() == State::Cancelled => {
            bail!(shown::error(&error))
        }
        Some(operation::Result::Error(error)) => bail!("the operation failed: {}", shown::error(&error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// The kit's helper resumes where it was told to watch; it cannot know that a service is somewhere else by now.
async fn follow(
    target: &Target,
    mut process: Process,
    name: &Name,
    mut told: impl FnMut(&Operation),
) -> anyhow::Result<Operation> {
    loop {
        tokio::select! {
            done = watch_until_done(process.channel.clone(), &name.text, &mut told) => {
                return done.map_err(|status| unanswered(&status, name));
            }
            () = target.moved(&name.service, &process) => {}
        }
        process = loop {
            match target.process(&name.service).await {
                Ok(process) => break process,
                // It was there a moment ago, and will be again.
                Err(_) => sleep(PAUSE).await,
            }
        };
    }
}

/// Shows every change of every operation of a service, from what is not done now on.
pub(crate) async fn follow_all(service: &str, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(service).await?;
    let types = reflection::types(&process).await;
    let mut subscription = Subscription::new(process.channel, format!("services/{service}"), Vec::new());
    loop {
        let frame = tokio::select! {
            frame = subscription.next() => frame.map_err(|status| anyhow!(shown::status(&status)))?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
        };
        let operation = match frame.frame {
            Some(Frame::Snapshot(operation)) => Some(operation),
            Some(Frame::Event(event)) => event.operation,
            Some(Frame::Reset(_)) => {
                shown::remark("something was missed that is not kept any more; this is how it is now");
                None
            }
            _ => None,
        };
        if let Some(operation) = operation {
            let line = format!("{} {}", change(&metadata(&operation), &types), operation.name);
            writeln!(io::stdout(), "{}", shown::one_line(&line))?;
        }
    }
}

struct Screen {
    /// Whether what was said can be written over.
    live: bool,
    /// The last that was shown: who begins anew, with another process, is told again what it knows.
    revision: i64,
    types: Types,
}

impl Screen {
    fn show(&mut self, operation: &Operation) -> io::Result<()> {
        let metadata = metadata(operation);
        if metadata.revision <= self.revision {
            return Ok(());
        }
        self.revision = metadata.revision;
        let mut out = io::stdout().lock();
        if self.live {
            // To the line's beginning, and away with what is left of the last one behind it.
            write!(out, "\r{}\x1b[K", shown::one_line(&bar(&metadata, &self.types)))?;
        } else {
            writeln!(out, "{}", shown::one_line(&change(&metadata, &self.types)))?;
        }
        out.flush()
    }

    /// Leaves the last line as it is, and goes to the next one.
    fn leave(&self) {
        if self.live && self.revision > 0 {
            let _ = writeln!(io::stdout());
        }
    }
}

fn bar(metadata: &OperationMetadata, types: &Types) -> String {
    let counted = metadata.progress.as_ref().and_then(|any| types.done_of_total(any));
    let Some((done, total)) = counted.filter(|(_, total)| *total > 0) else { return words(metadata, types) };
    // In 128 bits, where no two numbers of 64 are too large to multiply.
    let filled = u128::from(done.min(total)) * u128::from(WIDTH) / u128::from(total);
    let filled = usize::try_from(filled).unwrap_or_default();
    let bar = "#".repeat(filled) + &"-".repeat(WIDTH as usize - filled);
    format!("[{bar}] {}", words(metadata, types))
}

fn change(metadata: &OperationMetadata, types: &Types) -> String {
    let time = metadata.update_time.map(|time| time.to_string()).unwrap_or_default();
    format!("{time} {}", words(metadata, types))
}

/// `2/4 running`, and what is out of the ordinary.
fn words(metadata: &OperationMetadata, types: &Types) -> String {
    let mut words = format!("{} {}", progress(metadata, types), state(metadata));
    if metadata.attempt > 1 {
        words += &format!(", attempt {}", metadata.attempt);
    }
    if metadata.cancel_requested && metadata.state() != State::Cancelled {
        words += ", asked to stop";
    }
    words.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;
    use crate::message::tests::{Progress, types};

    fn running(done: i32, total: i32) -> OperationMetadata {
        let progress = Any::from_msg(&Progress { done, total }).ok();
        OperationMetadata { state: State::Running.into(), attempt: 1, progress, ..OperationMetadata::default() }
    }

    #[test]
    fn a_bar_is_as_full_as_the_work_is_done() {
        assert_eq!(bar(&running(1, 4), &types()), "[#####---------------] 1/4 running");
        assert_eq!(bar(&running(9, 4), &types()), "[####################] 9/4 running");
        assert_eq!(
            bar(&running(i32::MAX, i32::MAX), &types()),
            format!("[####################] {0}/{0} running", i32::MAX)
        );
        assert_eq!(bar(&running(0, 0), &types()), "0/0 running");
        assert_eq!(bar(&OperationMetadata { progress: None, ..running(0, 0) }, &types()), "running");
    }

    #[test]
    fn what_is_out_of_the_ordinary_is_said() {
        let again = OperationMetadata { attempt: 2, cancel_requested: true, ..running(1, 4) };
        assert_eq!(words(&again, &types()), "1/4 running, attempt 2, asked to stop");
        let other = Any { type_url: "type.googleapis.com/made.up.V1".to_owned(), value: vec![0; 3] };
        let other = OperationMetadata { progress: Some(other), ..running(0, 0) };
        assert_eq!(words(&other, &types()), "type.googleapis.com/made.up.V1 (3 bytes) running");
    }
}
