//! Follows one operation to its end, or all operations of a service.
//!
//! On a terminal one operation is a progress bar. Elsewhere, and for a service, each change is a line.

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

/// The width of a full progress bar, in characters.
const WIDTH: u64 = 20;
/// The pause between two attempts to find a service that has moved.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows each change of the operation until it is done.
pub(crate) async fn watch(name: &Name, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(&name.service).await?;
    // Fails at once if the peer does not speak gRPC: `watch_until_done` retries for as long as it is unreachable.
    get(&process, name).await?;
    let types = reflection::types(&process).await;
    let mut screen = Screen { live: io::stdout().is_terminal(), revision: 0, types };
    let closed = Notify::new();
    let show = |operation: &Operation| {
        if screen.show(operation).is_err() {
            closed.notify_one();
        }
    };
    let followed = tokio::select! {
        followed = follow(target, process, name, show) => Some(followed),
        () = closed.notified() => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        _ = tokio::signal::ctrl_c() => None,
    };
    screen.leave();
    let Some(followed) = followed else {
        shown::note("stopped watching; the operation goes on");
        return Ok(ExitCode::from(shown::INTERRUPTED));
    };
    let done = followed?;
    match done.result {
        // The error of a cancelled operation says so itself.
        Some(operation::Result::Error(error)) if metadata(&done).state() == State::Cancelled => {
            bail!(shown::failed(&error))
        }
        Some(operation::Result::Error(error)) => bail!("the operation failed: {}", shown::failed(&error)),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Follows the operation to its end. `watch_until_done` resumes at one address; this loop moves to another process when
/// Consul reports that the service has moved.
async fn follow(
    target: &Target,
    mut process: Process,
    name: &Name,
    mut show: impl FnMut(&Operation),
) -> anyhow::Result<Operation> {
    loop {
        tokio::select! {
            done = watch_until_done(process.channel.clone(), &name.text, &mut show) => {
                return done.map_err(|status| unanswered(&status, name));
            }
            () = target.moved(&name.service, &process) => {}
        }
        process = loop {
            match target.process(&name.service).await {
                Ok(process) => break process,
                // The service is between two processes.
                Err(_) => sleep(PAUSE).await,
            }
        };
    }
}

/// Prints each change of each operation of a service, beginning with the operations that are not done.
pub(crate) async fn follow_all(service: &str, target: &Target) -> anyhow::Result<ExitCode> {
    let process = target.process(service).await?;
    let types = reflection::types(&process).await;
    let mut subscription = Subscription::new(process.channel, format!("services/{service}"), Vec::new());
    loop {
        let frame = tokio::select! {
            frame = subscription.next() => frame.map_err(|status| anyhow!(shown::status(&status)))?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(shown::INTERRUPTED)),
        };
        let operation = match frame.frame {
            Some(Frame::Snapshot(operation)) => Some(operation),
            Some(Frame::Event(event)) => event.operation,
            Some(Frame::Reset(_)) => {
                shown::note("some changes are no longer kept and were missed; the current states follow");
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
    /// Whether a line can be overwritten.
    live: bool,
    /// The revision shown last. A stream from another process repeats earlier revisions, which are skipped.
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
            // Return to the start of the line, and erase the rest of the previous one.
            write!(out, "\r{}\x1b[K", shown::one_line(&bar(&metadata, &self.types)))?;
        } else {
            writeln!(out, "{}", shown::one_line(&change(&metadata, &self.types)))?;
        }
        out.flush()
    }

    /// Keeps the last line, and moves to the next one.
    fn leave(&self) {
        if self.live && self.revision > 0 {
            let _ = writeln!(io::stdout());
        }
    }
}

fn bar(metadata: &OperationMetadata, types: &Types) -> String {
    let counted = metadata.progress.as_ref().and_then(|any| types.done_of_total(any));
    let Some((done, total)) = counted.filter(|(_, total)| *total > 0) else { return words(metadata, types) };
    // In 128 bits the product cannot overflow.
    let filled = u128::from(done.min(total)) * u128::from(WIDTH) / u128::from(total);
    let filled = usize::try_from(filled).unwrap_or_default();
    let bar = "#".repeat(filled) + &"-".repeat(WIDTH as usize - filled);
    format!("[{bar}] {}", words(metadata, types))
}

fn change(metadata: &OperationMetadata, types: &Types) -> String {
    let time = metadata.update_time.map(|time| time.to_string()).unwrap_or_default();
    format!("{time} {}", words(metadata, types))
}

/// `2/4 running`, the attempt if it is not the first, and a pending cancellation.
fn words(metadata: &OperationMetadata, types: &Types) -> String {
    let mut words = format!("{} {}", progress(metadata, types), state(metadata));
    if metadata.attempt > 1 {
        words += &format!(", attempt {}", metadata.attempt);
    }
    if metadata.cancel_requested && metadata.state() != State::Cancelled {
        words += ", cancellation requested";
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
    fn bar_is_filled_in_proportion_to_the_progress() {
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
    fn words_include_attempt_cancellation_and_unknown_progress() {
        let again = OperationMetadata { attempt: 2, cancel_requested: true, ..running(1, 4) };
        assert_eq!(words(&again, &types()), "1/4 running, attempt 2, cancellation requested");
        let other = Any { type_url: "type.googleapis.com/made.up.V1".to_owned(), value: vec![0; 3] };
        let other = OperationMetadata { progress: Some(other), ..running(0, 0) };
        assert_eq!(words(&other, &types()), "type.googleapis.com/made.up.V1 (3 bytes) running");
    }
}
