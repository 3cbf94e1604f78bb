//! Why frames were not applied, and what to do about it.

use std::error::Error as _;

use mesh_store::Error;

/// Why frames were not applied. Their transaction was rolled back.
#[derive(Debug)]
pub(super) enum Failure {
    /// It passes by itself, such as an outage of the database. After a failed commit it is not known whether the frames
    /// were applied.
    Passing(String),
    /// The event cannot be applied: its cause.
    Poison(String),
    /// The place of the follower is no longer the one that its holder knows.
    Moved,
    /// The frame does not follow the place. The stream is of no use.
    OutOfOrder,
}

impl Failure {
    /// The failure of a follower's code, or of a statement in it.
    pub(super) fn of(error: &Error) -> Self {
        let text = match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        match error {
            // A damaged database is no property of the event: an operator restores it.
            Error::Unavailable(_) | Error::LeaseLost | Error::Corrupt(_) => Self::Passing(text),
            Error::RequestIdReused | Error::CascadeTooDeep { .. } | Error::Defect(_) => Self::Poison(text),
        }
    }
}

impl From<Error> for Failure {
    /// The failure of a statement of mesh: it is never the fault of an event.
    fn from(error: Error) -> Self {
        match Self::of(&error) {
            Self::Poison(text) => Self::Passing(text),
            failure => failure,
        }
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Error::from(error).into()
    }
}
