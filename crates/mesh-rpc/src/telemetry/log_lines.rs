//! The last lines of the log, kept beside its output: for the inspect API, which has no other way to them.
//!
//! Guarantees:
//! - At most [`LINES`] lines and [`BYTES`], the newest. A text is cut at [`TEXT`].
//! - What the filter of the log leaves out is not kept, and a line has no more than the log shows.

use std::collections::VecDeque;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context as Layered;

use crate::call::Context;

const LINES: usize = 1000;
const BYTES: usize = 1024 * 1024;
/// The longest text of a line.
const TEXT: usize = 4096;
/// What a line takes beside its text.
const OVERHEAD: usize = size_of::<LogLine>();

/// A line of the log.
#[derive(Debug)]
pub struct LogLine {
    /// When it was written.
    pub at: SystemTime,
    /// The level.
    pub level: Level,
    /// The module.
    pub target: &'static str,
    /// The trace of the call that is served.
    pub trace: Option<u128>,
    /// The message and its fields.
    pub text: String,
    /// The number since the start, from 1.
    pub number: u64,
}

/// The last lines of the log of a process.
pub struct LogLines {
    kept: Mutex<Kept>,
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<Arc<LogLine>>,
    bytes: usize,
    last: u64,
}

/// What a reader gets.
#[derive(Debug, Default)]
pub struct Tail {
    /// The lines, oldest first.
    pub lines: Vec<Arc<LogLine>>,
    /// The lines before them that are gone.
    pub missed: u64,
}

impl LogLines {
    fn new() -> Self {
        Self { kept: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// Those of this process: the log is one, too. Empty before it starts.
    pub fn of_process() -> &'static Self {
        static OF_PROCESS: LazyLock<LogLines> = LazyLock::new(LogLines::new);
        &OF_PROCESS
    }

    /// At most `most` lines after that of this number; with `None`, from the first that is kept.
    pub fn after(&self, number: Option<u64>, most: usize) -> Tail {
        let kept = self.kept();
        let first = kept.lines.front().map_or(kept.last + 1, |line| line.number);
        let next = number.map_or(first, |number| number + 1);
        // Numbers have no gap.
        let skipped = usize::try_from(next.saturating_sub(first)).unwrap_or(usize::MAX);
        let lines = kept.lines.iter().skip(skipped).take(most).cloned().collect();
        Tail { lines, missed: first.saturating_sub(next) }
    }

    /// Resolves its `changed` with each new line.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    fn add(&self, line: LogLine) {
        let mut kept = self.kept();
        kept.last += 1;
        kept.bytes += line.text.len() + OVERHEAD;
        let number = kept.last;
        kept.lines.push_back(Arc::new(LogLine { number, ..line }));
        while kept.lines.len() > LINES || kept.bytes > BYTES {
            let Some(gone) = kept.lines.pop_front() else { break };
            kept.bytes -= gone.text.len() + OVERHEAD;
        }
        drop(kept);
        self.last.send_replace(number);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The layer that keeps each line. It stands within the filter of the log.
pub(super) struct KeepLines(pub(super) &'static LogLines);

impl<S: Subscriber> Layer<S> for KeepLines {
    fn on_event(&self, event: &Event<'_>, _: Layered<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let trace = Context::served().map(|(_, trace)| trace.trace_id);
        self.0.add(LogLine { at: SystemTime::now(), level, target, trace, text: text.finish(), number: 0 });
    }
}

/// The message, and the fields behind it. What is above the bound is not even formatted.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
    left_out: bool,
}

impl Text {
    fn finish(self) -> String {
        let Self { mut message, fields, mut left_out } = self;
        let space = TEXT - message.len();
        let end = fields.floor_char_boundary(space.min(fields.len()));
        left_out |= end < fields.len();
        message.push_str(&fields[..end]);
        if left_out {
            message.truncate(message.floor_char_boundary(TEXT - '…'.len_utf8()));
            message.push('…');
        }
        message
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let is_message = field.name() == "message";
        let text = if is_message { &mut self.message } else { &mut self.fields };
        let mut bounded = Bounded { text };
        let written = if is_message { bounded.write_fmt(value) } else { write!(bounded, " {}={value}", field.name()) };
        self.left_out |= written.is_err();
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let causes = fmt::from_fn(|f| {
            write!(f, "{value}")?;
            let mut cause = value.source();
            while let Some(next) = cause {
                write!(f, ": {next}")?;
                cause = next.source();
            }
            Ok(())
        });
        self.add(field, format_args!("{causes}"));
    }
}

/// A text that ends at the bound.
struct Bounded<'a> {
    text: &'a mut String,
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let end = more.floor_char_boundary((TEXT - self.text.len()).min(more.len()));
        self.text.push_str(&more[..end]);
        if end < more.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Methods, Trace};
    use crate::telemetry::span_tests::install;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// What is kept of what `write` logs.
    fn kept(write: impl FnOnce()) -> Vec<Arc<LogLine>> {
        let lines: &'static LogLines = Box::leak(Box::new(LogLines::new()));
        let guard = install(tracing_subscriber::registry().with(KeepLines(lines)));
        write();
        drop(guard);
        lines.after(None, usize::MAX).lines
    }

    #[test]
    fn line_has_its_message_its_fields_and_its_trace() {
        let trace = Trace::begin();
        let method = Methods::of(&[]).find("/google.longrunning.Operations/GetOperation");
        let in_a_call = Context { method: Some(method), trace, ..Context::default() };
        let error = std::io::Error::other("no \"space\"");
        let lines = kept(|| {
            tracing::warn!(answer = 42, name = "a b", "said {}", "so");
            in_a_call.enter(|| tracing::error!(cause = &error as &(dyn Error + 'static), "failed"));
        });
        let [said, failed] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(
            (said.level, &*said.text, said.number, said.trace),
            (Level::WARN, "said so answer=42 name=\"a b\"", 1, None)
        );
        assert!(said.target.ends_with("log_lines::tests"), "{}", said.target);
        assert_eq!(
            (&*failed.text, failed.number, failed.trace),
            ("failed cause=no \"space\"", 2, Some(trace.trace_id))
        );
    }

    #[test]
    fn text_of_a_line_is_cut_between_two_characters() {
        let long = "ä".repeat(TEXT);
        let lines = kept(|| {
            tracing::info!("{long}");
            tracing::info!(long, "short");
            tracing::info!(long, "{}", "ä".repeat(TEXT / 2 - 1));
        });
        assert_eq!(lines.len(), 3);
        for line in lines {
            assert!(
                line.text.len() <= TEXT && line.text.len() > TEXT - 8 && line.text.ends_with('…'),
                "{}",
                line.text.len()
            );
        }
    }

    #[test]
    fn lines_are_bounded_and_readers_learn_what_they_missed() {
        let lines = LogLines::new();
        let line = |length: usize| LogLine {
            at: SystemTime::now(),
            level: Level::INFO,
            target: "",
            trace: None,
            text: "a".repeat(length),
            number: 0,
        };
        for _ in 0..LINES + 10 {
            lines.add(line(1));
        }
        let all = lines.after(None, usize::MAX);
        assert_eq!((all.lines.len(), all.lines[0].number, all.missed), (LINES, 11, 0));
        let late = lines.after(Some(5), 2);
        assert_eq!((late.lines.len(), late.lines[0].number, late.missed), (2, 11, 5));
        let next = lines.after(Some(12), 2);
        assert_eq!((next.lines[0].number, next.missed), (13, 0));
        assert!(lines.after(Some(LINES as u64 + 10), 2).lines.is_empty());
        for _ in 0..LINES {
            lines.add(line(TEXT));
        }
        let bytes: usize = lines.after(None, usize::MAX).lines.iter().map(|line| line.text.len() + OVERHEAD).sum();
        assert!(bytes <= BYTES && bytes > BYTES / 2, "{bytes}");
    }
}
