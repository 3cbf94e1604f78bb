//! The settings of the log: `log.format` and `log.level`.

use tracing_subscriber::filter::{LevelFilter, Targets};

use mesh_runtime::settings::{Key, Settings, Shown};

/// The format and the level of the log.
#[derive(Clone, Debug)]
pub struct Log {
    /// `None`: pretty on a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
    /// A level, or levels by target: `info,mesh=debug`.
    pub level: Targets,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, in colour on a terminal that supports it.
    Pretty,
    /// One JSON object per line.
    Json,
}

const LEVEL: &str = "off, error, warn, info, debug, trace, or levels by module such as info,mesh=debug";

impl Log {
    /// Reads `log.format` and `log.level`.
    pub fn take(settings: &mut Settings) -> Self {
        Self {
            format: settings.optional(&Key::new("log.format", "pretty or json"), parse_format),
            level: settings.take(&Key::new("log.level", LEVEL), Level(default_level()), parse_level).0,
        }
    }
}

/// A client that reports each of its attempts to connect, where a relay reports an outage once.
const CHATTY: &str = "async_nats";
/// A parser of database URLs that logs the values of keys that it does not know.
const LEAKY: &str = "sqlx_postgres::options";

impl Log {
    /// The filter of the log: the level, and warnings alone of a chatty client that the level does not name.
    pub(super) fn filter(&self) -> Targets {
        // It warns of a key of a URL that it does not know, with the value, which may be a secret.
        let level = self.level.clone().with_target(LEAKY, LevelFilter::ERROR);
        if level.iter().any(|(target, _)| target.starts_with(CHATTY)) {
            return level;
        }
        let default = level.default_level().unwrap_or(LevelFilter::OFF);
        level.with_target(CHATTY, default.min(LevelFilter::WARN))
    }
}

/// A level that prints as it is configured.
struct Level(Targets);

impl Shown for Level {
    fn shown(&self) -> String {
        self.0.to_string()
    }
}

fn default_level() -> Targets {
    Targets::new().with_default(tracing::Level::INFO)
}

fn parse_format(text: &str) -> Option<LogFormat> {
    match text {
        "pretty" => Some(LogFormat::Pretty),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn parse_level(text: &str) -> Option<Level> {
    // `Targets` reads any word without `=` as the name of a target. A misspelt level would disable the log; so would an
    // empty one, which stands for `error` there.
    let words_are_levels = text
        .split(',')
        .filter(|directive| !directive.contains('='))
        .all(|word| !word.trim().is_empty() && word.parse::<LevelFilter>().is_ok());
    if words_are_levels { text.parse().ok().map(Level) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filter_keeps_a_chatty_client_quiet_unless_the_level_names_it() {
        let enabled = |level: &str, asked| {
            let log = Log { format: None, level: parse_level(level).unwrap().0 };
            log.filter().would_enable("async_nats::connector", &asked)
        };
        for level in ["info", "debug,mesh=info"] {
            assert!(enabled(level, tracing::Level::WARN) && !enabled(level, tracing::Level::INFO), "{level}");
        }
        assert!(!enabled("error", tracing::Level::WARN));
        assert!(enabled("info,async_nats=debug", tracing::Level::DEBUG));
    }

    #[test]
    fn log_filter_never_shows_values_of_a_database_url() {
        for level in ["info", "trace", "warn,sqlx_postgres=trace"] {
            let log = Log { format: None, level: parse_level(level).unwrap().0 };
            assert!(!log.filter().would_enable("sqlx_postgres::options::parse", &tracing::Level::WARN), "{level}");
        }
    }

    #[test]
    fn log_level_rejects_a_misspelt_word() {
        for wrong in ["inof", "", " ", "info,", ",mesh=debug"] {
            assert!(parse_level(wrong).is_none(), "{wrong}");
        }
        assert!(parse_level("warn,mesh=debug").is_some());
        let shown = Level(default_level()).shown();
        assert!(parse_level(&shown).is_some(), "{shown}");
    }
}
