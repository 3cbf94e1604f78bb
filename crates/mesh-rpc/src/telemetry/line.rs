//! The format of a log line.
//!
//! A line that a call writes names the call: its method and its trace. They are read from the call's
//! [`Context`](crate::call::Context) when a line is written. A span for each call would cost more than all other
//! telemetry of the call, and most calls write nothing.
//!
//! Such a line looks as if the call had a span `rpc`, with the fields `rpc.service`, `rpc.method` and `trace_id`. In
//! JSON a service's own span within the call keeps the place `span`, and the call is in `rpc` beside it.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Compact, Format, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::call::{Context, Method, Trace};

/// The name of the span that a call seems to have.
const NAME: &str = "rpc";
/// The target of the spans of long-running work. A call is never around them, but may be within one.
const WORK: &str = "mesh_operations";

/// One JSON object a line.
pub(super) struct JsonLine {
    with_span: Format<Json>,
    without_span: Format<Json>,
}

impl Default for JsonLine {
    fn default() -> Self {
        let format = || Format::default().json().flatten_event(true).with_span_list(false);
        Self { with_span: format().with_current_span(true), without_span: format().with_current_span(false) }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some((method, trace)) = Context::served() else {
            return self.with_span.format_event(ctx, writer, event);
        };
        let (format, key) = match ctx.lookup_current().filter(is_within_a_call) {
            Some(_) => (&self.with_span, "rpc"),
            None => (&self.without_span, "span"),
        };
        let mut line = String::new();
        format.format_event(ctx, Writer::new(&mut line), event)?;
        let (Method { service, name, .. }, trace) = (method, trace.trace_id());
        // Names of a contract need no escapes.
        let open = line.strip_suffix("}\n").unwrap_or(&line);
        writeln!(
            writer,
            r#"{open},"{key}":{{"rpc.method":"{name}","rpc.service":"{service}","trace_id":"{trace}","name":"{NAME}"}}}}"#
        )
    }
}

/// A line for people.
pub(super) struct PrettyLine {
    format: Format<Compact>,
    style: Style,
}

impl PrettyLine {
    /// With colours, if the terminal is `ansi`.
    pub(super) fn new(ansi: bool) -> Self {
        Self { format: Format::default().compact().with_ansi(ansi), style: Style { ansi } }
    }
}

impl<S, N> FormatEvent<S, N> for PrettyLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let Some(called) = Context::served() else { return self.format.format_event(ctx, writer, event) };
        let mut line = String::new();
        self.format.format_event(ctx, Writer::new(&mut line), event)?;
        let style = &self.style;
        // The spans stand between the level and the target.
        let target = format!("{}{}", style.dimmed(), event.metadata().target());
        let (head, tail) = line.split_at(line.find(&target).unwrap_or_default());
        let outer = ctx.lookup_current().is_some();
        write!(writer, "{}{}{NAME}{}: ", if outer { head.trim_end() } else { head }, style.bold(), style.plain())?;
        write!(writer, "{} {}{}", tail.trim_end(), style.dimmed(), Fields(called))?;
        writeln!(writer, "{}", style.plain())
    }
}

/// The fields of a call, as a span would print them.
struct Fields((&'static Method, Trace));

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Method { service, name, .. }, trace) = self.0;
        write!(f, r#"rpc.service="{service}" rpc.method="{name}" trace_id={}"#, trace.trace_id())
    }
}

/// The escapes of a terminal.
struct Style {
    ansi: bool,
}

impl Style {
    fn bold(&self) -> &'static str {
        if self.ansi { "\x1b[1m" } else { "" }
    }

    fn dimmed(&self) -> &'static str {
        if self.ansi { "\x1b[2m" } else { "" }
    }

    fn plain(&self) -> &'static str {
        if self.ansi { "\x1b[0m" } else { "" }
    }
}

fn is_within_a_call<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> bool {
    !span.metadata().target().starts_with(WORK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Methods;
    use crate::telemetry::span_tests::install;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::{DefaultFields, JsonFields};
    use tracing_subscriber::layer::SubscriberExt as _;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Written {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// The one line that `write` logs in a format, without the time.
    fn line<N, E>(fields: N, format: E, ansi: bool, write: impl FnOnce()) -> String
    where
        N: for<'a> FormatFields<'a> + Send + Sync + 'static,
        E: FormatEvent<tracing_subscriber::Registry, N> + Send + Sync + 'static,
    {
        let written = Written::default();
        let lines = tracing_subscriber::fmt::layer().with_writer(written.clone()).with_ansi(ansi);
        let lines = lines.fmt_fields(fields).event_format(format);
        let guard = install(tracing_subscriber::registry().with(lines));
        write();
        drop(guard);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let (before, after) = text.split_once("Z").unwrap();
        let digit = |c: char| !c.is_ascii_digit() && c != '.';
        before.chars().filter(|c| digit(*c)).collect::<String>() + after
    }

    fn said() {
        tracing::info!(answer = 42, "said \"so\"");
    }

    fn in_a_call(trace: Trace, write: impl FnOnce()) {
        let method = Methods::of(&[]).find("/google.longrunning.Operations/GetOperation");
        Context { method: Some(method), trace, ..Context::default() }.enter(write);
    }

    fn in_a_span(trace: Trace, write: impl FnOnce()) {
        let (service, method) = ("google.longrunning.Operations", "GetOperation");
        let trace_id = trace.trace_id();
        tracing::info_span!("rpc", rpc.service = service, rpc.method = method, %trace_id).in_scope(write);
    }

    #[test]
    fn line_of_a_call_looks_as_if_the_call_had_a_span() {
        let trace = Trace::begin();
        let json = |write: &dyn Fn()| line(JsonFields::new(), JsonLine::default(), false, write);
        let (called, spanned) = (json(&|| in_a_call(trace, said)), json(&|| in_a_span(trace, said)));
        assert_eq!(called, spanned);
        let object: serde_json::Value =
            serde_json::from_str(&json(&|| in_a_call(trace, said)).replacen("--T::", "", 1)).unwrap();
        assert_eq!(object["span"]["trace_id"], trace.trace_id().to_string());
        for ansi in [false, true] {
            let pretty = |write: &dyn Fn()| line(DefaultFields::new(), PrettyLine::new(ansi), ansi, write);
            let (called, spanned) = (pretty(&|| in_a_call(trace, said)), pretty(&|| in_a_span(trace, said)));
            // A span prints its fields in italics.
            let plain = |line: String| line.replace("\x1b[3m", "").replace("\x1b[0m\x1b[2m=\x1b[0m", "=");
            assert_eq!(plain(called), plain(spanned), "ansi: {ansi}");
        }
    }

    #[test]
    fn line_within_a_service_s_own_span_keeps_both() {
        let own = || tracing::info_span!("own", step = 1).in_scope(said);
        let json = line(JsonFields::new(), JsonLine::default(), false, || in_a_call(Trace::begin(), own));
        assert!(json.contains(r#""span":{"step":1,"name":"own"},"rpc":{"rpc.method":"GetOperation""#), "{json}");
        let pretty = line(DefaultFields::new(), PrettyLine::new(false), false, || in_a_call(Trace::begin(), own));
        assert!(pretty.contains("own:rpc: ") && pretty.contains("step=1 rpc.service="), "{pretty}");
    }

    #[test]
    fn line_of_a_call_from_work_names_the_call() {
        let attempt = |write: fn()| tracing::info_span!(target: "mesh_operations::runner", "attempt").in_scope(write);
        let json = line(JsonFields::new(), JsonLine::default(), false, || attempt(|| in_a_call(Trace::begin(), said)));
        assert!(json.contains(r#""span":{"rpc.method":"GetOperation""#) && !json.contains("attempt"), "{json}");
        let json = line(JsonFields::new(), JsonLine::default(), false, || attempt(said));
        assert!(json.contains(r#""span":{"name":"attempt"}"#), "{json}");
    }
}
