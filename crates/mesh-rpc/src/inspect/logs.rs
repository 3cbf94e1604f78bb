//! The stream of the log: the lines that are kept, then each new one.

use std::time::Duration;

use mesh_proto::mesh::inspect::v1::TailLogsResponse;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::Level;

use super::wire;
use crate::telemetry::{LogLine, LogLines};

/// The most lines of a message. With the longest text each, it is below the bound of a message.
const LINES: usize = 100;
/// Lines that are written together are sent together.
const PAUSE: Duration = Duration::from_millis(50);

/// The lines that a reader asks for.
pub(super) struct Asked {
    pub(super) level: Option<Level>,
    pub(super) trace: Option<u128>,
    /// End after the lines that are kept.
    pub(super) end: bool,
}

/// A reader of the log.
pub(super) struct Reader {
    log: &'static LogLines,
    asked: Asked,
    changes: watch::Receiver<u64>,
    /// The number of the last line that was read.
    last: Option<u64>,
    /// Where to end.
    until: Option<u64>,
}

impl Reader {
    pub(super) fn new(log: &'static LogLines, asked: Asked) -> Self {
        let changes = log.changes();
        let until = asked.end.then(|| *changes.borrow());
        Self { log, asked, changes, last: None, until }
    }

    /// The next lines; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<TailLogsResponse> {
        loop {
            self.changes.mark_unchanged();
            let tail = self.log.after(self.last, LINES);
            if let Some(line) = tail.lines.last() {
                self.last = Some(line.number);
                let lines: Vec<_> =
                    tail.lines.iter().filter(|line| self.is_asked(line)).map(|line| wire::line(line)).collect();
                if !lines.is_empty() || tail.missed > 0 {
                    let missed = i64::try_from(tail.missed).unwrap_or(i64::MAX);
                    return Some(TailLogsResponse { lines, missed });
                }
                continue;
            }
            if self.until.is_some() {
                return None;
            }
            self.changes.changed().await.ok()?;
            sleep(PAUSE).await;
        }
    }

    fn is_asked(&self, line: &LogLine) -> bool {
        self.until.is_none_or(|until| line.number <= until)
            && self.asked.level.is_none_or(|level| line.level <= level)
            && self.asked.trace.is_none_or(|trace| line.trace == Some(trace))
    }
}
