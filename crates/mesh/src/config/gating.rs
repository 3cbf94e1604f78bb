//! The settings `release.gate` and `release.gate_limit`.

use std::time::Duration;

use mesh_runtime::settings::{Key, Settings, Shown, parse};

/// What the gate of a process does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gating {
    /// Whether it looks, and holds.
    pub(crate) mode: GateMode,
    /// How long what cannot be asked holds a process. 0 s to 10 min.
    pub(crate) limit: Duration,
}

/// Whether a process looks if it fits what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateMode {
    /// It does not look.
    Off,
    /// It says what does not fit, and serves.
    Warn,
    /// It does not serve before it fits.
    Hold,
}

impl Gating {
    /// Reads `release.gate` and `release.gate_limit`.
    pub(crate) fn take(settings: &mut Settings) -> Self {
        let mode = settings.take(&Key::new("release.gate", "off, warn or hold"), GateMode::Warn, mode_of);
        let key = Key::new("release.gate_limit", "a time from 0s to 10min, such as 10s");
        let within = parse::time(Duration::ZERO, Duration::from_secs(600));
        Self { mode, limit: settings.take(&key, Duration::from_secs(10), within) }
    }
}

fn mode_of(text: &str) -> Option<GateMode> {
    match text {
        "off" => Some(GateMode::Off),
        "warn" => Some(GateMode::Warn),
        "hold" => Some(GateMode::Hold),
        _ => None,
    }
}

impl Shown for GateMode {
    fn shown(&self) -> String {
        let name = match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Hold => "hold",
        };
        name.to_owned()
    }
}
