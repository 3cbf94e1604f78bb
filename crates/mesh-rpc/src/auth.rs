//! Who calls, and whether it may: tokens of users at the first hop, passports between processes, and the access that
//! contracts declare.
//!
//! Modules, in order of dependency: [`settings`] has the keys `auth`, `denied` the refusals, `denials` their log,
//! `rules` decides by contract, caller and calling service, [`intentions`] has who may call whom, [`passports`] carries
//! users from process to process, [`gate`] applies all of it to a call.
//!
//! Guarantees, with `auth.mode = "required"`:
//! - A caller is known by a token of a configured issuer, a passport of a service that may vouch, or a certificate of
//!   the mesh. What a client writes of itself counts for nothing.
//! - A handler sees neither the token nor the passport, and a token does not leave the process that has checked it.
//! - A call that is refused takes no permit, and none of its body is read. Its client learns the rule, the log the
//!   cause.
//! - A stream ends with the token of its user.
//!
//! See: decision 0043, docs/operate/auth.md

mod denials;
mod denied;
pub mod gate;
pub mod intentions;
pub mod passports;
mod rules;
pub mod settings;

pub use gate::Gate;
pub use passports::Passports;
pub use settings::{Mode, Settings};
