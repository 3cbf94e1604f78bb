//! One line of the report: a program or an address, its state, and the remedy.

/// One line of what there is to tell.
pub(super) struct Finding {
    /// A program, or an address.
    pub(super) what: String,
    pub(super) need: Need,
    pub(super) state: State,
    /// What is there.
    pub(super) found: String,
    /// What it is good for.
    pub(super) serves: String,
    /// What to do about it, if it is bad.
    pub(super) remedy: String,
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// `cargo run` or `cargo test`: everybody.
    Needed,
    /// Some.
    Optional,
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ok,
    Missing,
    TooOld,
    /// A port that can be listened on.
    Free,
    /// A port that the right one listens on already.
    Serving,
    /// A port that cannot be had.
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
