//! The keys that say how logs look.

use tracing_subscriber::filter::Targets;

use super::settings::Settings;

/// How logs look, and which are written.
#[derive(Clone, Debug)]
pub struct Log {
    /// For people or for machines. `None`: for people on a terminal, for machines elsewhere.
    pub format: Option<LogFormat>,
    /// A level, or levels by module: `info,mesh=debug`.
    pub level: Targets,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people, in colour where the terminal has it.
    Pretty,
    /// One JSON object a line.
    Json,
}

const LEVEL: &str = "off, error, warn, info, debug, trace, or levels by module such as info,mesh=debug";

/// Reads `log.format` and `log.level`.
pub(super) fn take(settings: &mut Settings) -> Log {
    Log {
        format: settings.take("log.format", "pretty or json", parse_format),
        level: settings.take("log.level", LEVEL, parse_level).unwrap_or_else(default_level),
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

fn parse_level(text: &str) -> Option<Targets> {
    // `Targets` takes any bare word for the name of a module: a misspelt level would silence everything.
    let bare_words_are_levels = text
        .split(',')
        .filter(|directive| !directive.contains('='))
        .all(|directive| directive.parse::<tracing::metadata::LevelFilter>().is_ok());
    if bare_words_are_levels { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{catalog, load, problems};

    #[test]
    fn a_misspelt_level_is_a_mistake() {
        assert!(problems(&["--set=log.level=inof"], &[])[0].contains("debug"));
        assert!(load(catalog(), &["--set=log.level=warn,mesh=debug"], &[]).is_ok());
    }
}
