//! One line of the report: a program or an address, its state, and the remedy.

/// One line of the report.
pub(super) struct Finding {
    /// A program, or an address.
    pub(super) what: String,
    pub(super) need: Need,
    pub(super) state: State,
    /// The version and the path of a program, or the process that listens.
    pub(super) found: String,
    /// The use of the tool or of the port.
    pub(super) serves: String,
    /// The remedy, printed if the state is bad.
    pub(super) remedy: String,
}

/// Whether `cargo run` and `cargo test` need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// `cargo run` or `cargo test` fails without it.
    Needed,
    /// Other commands use it.
    Optional,
}

/// The state of a tool or of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    Missing,
    TooOld,
    /// No process listens on the port.
    Free,
    /// The expected program already listens on the port.
    Serving,
    /// Another process listens on the port, or the system refuses it.
    Taken,
}

impl Need {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Needed => "needed",
            Self::Optional => "optional",
        }
    }
}

impl State {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Missing => "missing",
            Self::TooOld => "too old",
            Self::Free => "free",
            Self::Serving => "serving",
            Self::Taken => "taken",
        }
    }

    pub(super) fn is_bad(self) -> bool {
        matches!(self, Self::Missing | Self::TooOld | Self::Taken)
    }
}
